"""Networks in PyTorch with the module names and structures of the code that people have checkpoints of.

Widths are free, so that tests are quick; `width=1` is the original.
"""

import itertools

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

VGG_CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 16: (2, 2, 3, 3, 3)}


class MLP(nn.Module):
    """The LLFC authors' names: one Sequential called `layers`."""

    def __init__(self, widths=(784, 512, 512, 512, 10)):
        super().__init__()
        steps = [step for sizes in itertools.pairwise(widths) for step in (nn.Linear(*sizes), nn.ReLU())]
        self.layers = nn.Sequential(*steps[:-1])

    def forward(self, x):
        return self.layers(x.flatten(1))


class LeNet(nn.Module):
    """The LLFC authors' names: convolutions and three `fc`."""

    def __init__(self, width=1.0):
        super().__init__()
        c1, c2, d1, d2 = (round(size * width) for size in (6, 16, 120, 84))
        self.conv1, self.conv2 = nn.Conv2d(1, c1, 5, padding=2), nn.Conv2d(c1, c2, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(25 * c2, d1), nn.Linear(d1, d2), nn.Linear(d2, 10)

    def forward(self, x):
        for layer in (self.conv1, self.conv2):
            x = functional.max_pool2d(functional.relu(layer(x)), 2)
        return self.fc3(functional.relu(self.fc2(functional.relu(self.fc1(x.flatten(1))))))


class VGG(nn.Module):
    """`features`, `classifier`: the LLFC authors' with `pool=1`, torchvision's with `pool=7`."""

    def __init__(self, depth, norm=False, pool=1, width=1.0, head=4096):
        super().__init__()
        head, channels, features = round(head * width), 3, []
        for count, size in zip(VGG_CONVOLUTIONS[depth], (64, 128, 256, 512, 512), strict=True):
            for _ in range(count):
                features += [nn.Conv2d(channels, round(size * width), 3, padding=1)]
                channels = round(size * width)
                features += [nn.BatchNorm2d(channels), nn.ReLU()] if norm else [nn.ReLU()]
            features += [nn.MaxPool2d(2)]
        self.features, self.avgpool = nn.Sequential(*features), nn.AdaptiveAvgPool2d(pool)
        hidden = [
            nn.Linear(channels * pool**2, head),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(head, head),
            nn.ReLU(),
        ]
        self.classifier = nn.Sequential(*hidden, nn.Dropout(), nn.Linear(head, 10))

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


class Block(nn.Module):
    """A residual block; its shortcut, where it has one, goes by `name`."""

    def __init__(self, name, channels, sizes, kernels, stride, pad):
        super().__init__()
        self.name, self.pad, self.stride, self.count = name, None, stride, len(sizes)
        entry = channels
        for index, (size, kernel) in enumerate(zip(sizes, kernels, strict=True)):
            step = stride if index == kernels.index(3) else 1
            convolution = nn.Conv2d(channels, size, kernel, step, kernel // 2, bias=False)
            self.add_module(f"conv{index + 1}", convolution)
            self.add_module(f"bn{index + 1}", nn.BatchNorm2d(size))
            channels = size
        if stride != 1 or entry != channels:
            if pad:
                self.pad = (channels - entry) // 2
            else:
                resize = nn.Conv2d(entry, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
                self.add_module(name, nn.Sequential(*resize))

    def forward(self, x):
        y = x
        for index in range(1, self.count + 1):
            y = getattr(self, f"bn{index}")(getattr(self, f"conv{index}")(y))
            y = functional.relu(y) if index < self.count else y
        if self.pad is not None:
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        elif hasattr(self, self.name):
            x = getattr(self, self.name)(x)
        return functional.relu(x + y)


class ResNet(nn.Module):
    """`layer1`, ...: the LLFC authors' (`shortcut`, `linear`) and torchvision's (`downsample`, `fc`)."""

    def __init__(self, counts, sizes, width=1.0, bottleneck=False, imagenet=False, pad=False):
        super().__init__()
        sizes = [round(size * width) for size in sizes]
        channels, self.imagenet, self.groups = sizes[0], imagenet, len(sizes)
        kernel, stride = (7, 2) if imagenet else (3, 1)
        self.conv1 = nn.Conv2d(3, channels, kernel, stride, kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        for group, (count, size) in enumerate(zip(counts, sizes, strict=True), start=1):
            branch, kernels = ((size, size, 4 * size), (1, 3, 1)) if bottleneck else ((size, size), (3, 3))
            blocks = []
            for index in range(count):
                stride = 2 if group > 1 and index == 0 else 1
                name = "downsample" if imagenet else "shortcut"
                blocks += [Block(name, channels, branch, kernels, stride, pad)]
                channels = branch[-1]
            self.add_module(f"layer{group}", nn.Sequential(*blocks))
        self.add_module("fc" if imagenet else "linear", nn.Linear(channels, 10))

    def forward(self, x):
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.max_pool2d(x, 3, 2, 1) if self.imagenet else x
        for group in range(1, self.groups + 1):
            x = getattr(self, f"layer{group}")(x)
        return (self.fc if self.imagenet else self.linear)(x.mean((2, 3)))


class WideBlock(nn.Module):
    """A pre-activation block, with the names of xternalz/WideResNet-pytorch."""

    def __init__(self, entry, channels, stride):
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(entry), nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(entry, channels, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        if stride != 1 or entry != channels:
            self.convShortcut = nn.Conv2d(entry, channels, 1, stride, bias=False)

    def forward(self, x):
        active = functional.relu(self.bn1(x))
        y = self.conv2(functional.relu(self.bn2(self.conv1(active))))
        return y + (self.convShortcut(active) if hasattr(self, "convShortcut") else x)


class WideResNet(nn.Module):
    """WRN-(6 count + 4)-width."""

    def __init__(self, count, width):
        super().__init__()
        entry, sizes = 16, [round(size * width) for size in (16, 32, 64)]
        self.conv1 = nn.Conv2d(3, entry, 3, 1, 1, bias=False)
        for group, size in enumerate(sizes, start=1):
            blocks = [WideBlock(entry, size, 2 if group > 1 else 1)]
            blocks += [WideBlock(size, size, 1) for _ in range(count - 1)]
            self.add_module(f"block{group}", nn.Module())
            getattr(self, f"block{group}").layer = nn.Sequential(*blocks)
            entry = size
        self.bn1 = nn.BatchNorm2d(entry)
        self.fc = nn.Linear(entry, 10)

    def forward(self, x):
        x = self.conv1(x)
        for block in (self.block1, self.block2, self.block3):
            x = block.layer(x)
        return self.fc(functional.relu(self.bn1(x)).mean((2, 3)))


NETWORKS = {
    "mlp": lambda: MLP((784, 12, 12, 12, 10)),
    "mlp on colour": lambda: MLP((192, 12, 10)),
    "lenet": lambda: LeNet(1 / 4),
    "vgg11": lambda: VGG(11, width=1 / 32),
    "vgg16_bn": lambda: VGG(16, norm=True, width=1 / 64, head=512),
    "vgg16 of torchvision": lambda: VGG(16, pool=7, width=1 / 64, head=512),
    "resnet20": lambda: ResNet((3, 3, 3), (16, 32, 64), 1 / 8, pad=True),
    "resnet20, option B": lambda: ResNet((3, 3, 3), (16, 32, 64), 1 / 8),
    "resnet18 with the small stem": lambda: ResNet((2, 2, 2, 2), (64, 128, 256, 512), 1 / 16),
    "resnet50 of torchvision": lambda: ResNet(
        (3, 4, 6, 3), (64, 128, 256, 512), 1 / 16, bottleneck=True, imagenet=True
    ),
    "wideresnet10": lambda: WideResNet(1, 1 / 2),
}
"""The names are those of `cases.CASES`."""


def make(name, seed=1):
    """A network in evaluation mode whose arrays are all random and whose signals don't vanish."""
    torch.manual_seed(seed)
    network = NETWORKS[name]()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    module.bias.normal_(0, 0.1)
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.2)
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 1.5)
                module.num_batches_tracked.fill_(seed + 7)
    return network.eval()


def logits(network, images):
    """Of images (n, height, width, channels)."""
    with torch.no_grad():
        return network(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
