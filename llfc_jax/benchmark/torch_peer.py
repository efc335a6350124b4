"""The same work in PyTorch, as a straightforward script has it: modules, hooks, one alpha after the other.

Module names are those of the LLFC authors' code (github.com/zzp1012/LLFC), and so is the manner: images come
through a `DataLoader`, and LLFC keeps the features of the whole dataset. It runs in a process without JAX, so
that its peak memory is its own:

    python -m llfc_jax.benchmark.torch_peer JSON

where JSON is an object with `work`, a name of `WORKS`, and the fields of `Job`.
"""

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, pairwise
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

State = dict[str, torch.Tensor]
"""A state dict."""
Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]
"""Images (n, c, h, w) and labels (n,)."""

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

ALPHAS = tuple(index / 24 for index in range(25))
LLFC_ALPHAS = (0.25, 0.5, 0.75)


class Job(NamedTuple):
    """A network and how much it is fed."""

    model: dict[str, Any]
    image: tuple[int, int, int]
    """Height, width, channels."""
    batch_size: int
    images: int
    repeats: int
    precision: str = "float32"
    """Of matrix products and convolutions on an accelerator: anything else allows TF32."""

    def network(self, seed: int) -> nn.Module:
        """A random network of ten classes."""
        torch.manual_seed(seed)
        options = {key: value for key, value in self.model.items() if key != "name"}
        return NETWORKS[self.model["name"]](**options).to(DEVICE)

    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Random inputs and labels."""
        height, width, channels = self.image
        images = torch.randn(self.batch_size, channels, height, width)
        return images.to(DEVICE), torch.randint(0, 10, (self.batch_size,)).to(DEVICE)


class MLP(nn.Module):
    """784-512-512-512-10."""

    def __init__(self) -> None:
        super().__init__()
        steps = [[nn.Linear(*sizes), nn.ReLU()] for sizes in pairwise((784, 512, 512, 512, 10))]
        self.layers = nn.Sequential(*chain.from_iterable(steps))[:-1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 1, 28, 28) -> logits."""
        return self.layers(x.flatten(1))


class VGG16(nn.Module):
    """For 32x32 images, with BatchNorm or without any norm."""

    def __init__(self, norm: str = "none") -> None:
        super().__init__()
        steps: list[nn.Module] = []
        channels = 3
        for count, size in zip((2, 2, 3, 3, 3), (64, 128, 256, 512, 512), strict=True):
            for _ in range(count):
                steps += [nn.Conv2d(channels, size, 3, padding=1)]
                steps += [nn.BatchNorm2d(size)] if norm == "batch" else []
                steps += [nn.ReLU()]
                channels = size
            steps += [nn.MaxPool2d(2)]
        self.features = nn.Sequential(*steps, nn.AdaptiveAvgPool2d(1))
        hidden = [nn.Linear(512, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU()]
        self.classifier = nn.Sequential(*hidden, nn.Dropout(), nn.Linear(4096, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 3, 32, 32) -> logits."""
        return self.classifier(self.features(x).flatten(1))


class Block(nn.Module):
    """A basic residual block with the shortcut of option A."""

    def __init__(self, channels: int, features: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, features, 3, stride, 1, bias=False)
        self.bn1, self.relu1 = nn.BatchNorm2d(features), nn.ReLU()
        self.conv2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.bn2, self.relu2 = nn.BatchNorm2d(features), nn.ReLU()
        self.stride, self.pad = stride, (features - channels) // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """relu(branch(x) + shortcut(x))."""
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        if self.pad:
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return self.relu2(x + y)


class ResNet20(nn.Module):
    """For 32x32 images."""

    def __init__(self, width: int = 1) -> None:
        super().__init__()
        channels = 16 * width
        self.conv1 = nn.Conv2d(3, channels, 3, 1, 1, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(channels), nn.ReLU()
        for group, features in enumerate((16 * width, 32 * width, 64 * width), start=1):
            stride = 1 if group == 1 else 2
            blocks = [Block(channels, features, stride), *(Block(features, features, 1) for _ in range(2))]
            self.add_module(f"layer{group}", nn.Sequential(*blocks))
            channels = features
        self.linear = nn.Linear(channels, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 3, 32, 32) -> logits."""
        x = self.relu(self.bn1(self.conv1(x)))
        for group in (1, 2, 3):
            x = getattr(self, f"layer{group}")(x)
        return self.linear(x.mean((2, 3)))


NETWORKS: dict[str, Callable[..., nn.Module]] = {"mlp": MLP, "vgg16": VGG16, "resnet20": ResNet20}
"""By the names that `llfc_jax.models` has for them."""


class Images(Dataset):
    """Images of uint8, normalised one by one as a `torchvision` dataset does it."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = self.images[index].permute(2, 0, 1).float().div(255)
        return (image - 0.5) / 0.25, self.labels[index]


class Clocked:
    """Batches, and how many seconds one has waited for them."""

    def __init__(self, batches: Batches) -> None:
        self.batches, self.waited = batches, 0.0

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        asked = time.perf_counter()
        for batch in self.batches:
            self.waited += time.perf_counter() - asked
            yield batch
            asked = time.perf_counter()


def interpolate(a: State, b: State, alpha: float) -> State:
    """(1 - alpha) a + alpha b; BatchNorm's counters are a's."""
    return {
        name: (1 - alpha) * a[name] + alpha * b[name] if a[name].is_floating_point() else a[name]
        for name in a
    }


@torch.no_grad()
def lmc(network: nn.Module, a: State, b: State, batches: Batches, alphas: Sequence[float]) -> dict[str, Any]:
    """Mean cross-entropy and fraction of mistakes at each alpha."""
    curves: dict[str, list[float]] = {"loss": [], "error": []}
    for alpha in alphas:
        network.load_state_dict(interpolate(a, b, alpha))
        loss = mistakes = seen = 0.0
        for images, labels in batches:
            images, labels = images.to(DEVICE), labels.to(DEVICE)
            logits = network(images)
            loss += functional.cross_entropy(logits, labels, reduction="sum").item()
            mistakes += (logits.argmax(1) != labels).sum().item()
            seen += len(labels)
        curves["loss"].append(loss / seen)
        curves["error"].append(mistakes / seen)
    return curves


@torch.no_grad()
def features_of(network: nn.Module, state: State, batches: Batches) -> dict[str, torch.Tensor]:
    """The outputs of all layers, by module name, for the whole dataset: (N, ...)."""
    kept: dict[str, list[torch.Tensor]] = {}
    leaves = [(name, module) for name, module in network.named_modules() if not list(module.children())]
    hooks = [
        module.register_forward_hook(
            lambda _, __, output, name=name: kept.setdefault(name, []).append(output)
        )
        for name, module in leaves
    ]
    network.load_state_dict(state)
    for images, _ in batches:
        network(images.to(DEVICE))
    for hook in hooks:
        hook.remove()
    return {name: torch.cat(kept.pop(name)) for name in list(kept)}


@torch.no_grad()
def llfc(network: nn.Module, a: State, b: State, batches: Batches, alphas: Sequence[float]) -> dict[str, Any]:
    """Module -> mean cosine distance and coefficient at each alpha, and the distance of A from B."""
    of_a, of_b = (features_of(network, state, batches) for state in (a, b))
    found: dict[str, Any] = {
        name: {"baseline": _cosine_distance(of_a[name], of_b[name]), "cosine_distance": [], "coefficient": []}
        for name in of_a
    }
    for alpha in alphas:
        for name, feature in features_of(network, interpolate(a, b, alpha), batches).items():
            mixed = ((1 - alpha) * of_a[name] + alpha * of_b[name]).flatten(1)
            dot = (feature.flatten(1) * mixed).sum(1)
            found[name]["cosine_distance"].append(_cosine_distance(feature, mixed))
            found[name]["coefficient"].append((dot / mixed.square().sum(1)).mean().item())
    return found


def _cosine_distance(u: torch.Tensor, v: torch.Tensor) -> float:
    return (1 - functional.cosine_similarity(u.flatten(1), v.flatten(1))).mean().item()


def forward(job: Job) -> dict[str, float]:
    """One batch."""
    network, (images, _) = job.network(0).eval(), job.batch()

    @torch.no_grad()
    def work() -> None:
        network(images)

    return {"seconds": _median_seconds(work, job.repeats)}


def training_step(job: Job) -> dict[str, float]:
    """One update on one batch by SGD with momentum and weight decay."""
    network, (images, labels) = job.network(0).train(), job.batch()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)

    def work() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(network(images), labels).backward()
        optimizer.step()

    return {"seconds": _median_seconds(work, job.repeats)}


def path_evaluation(job: Job) -> dict[str, float]:
    """LMC at 25 alphas and LLFC at 3."""
    a, b = (job.network(seed).state_dict() for seed in (0, 1))
    network = job.network(0).eval()
    images = torch.randint(0, 256, (job.images, *job.image), dtype=torch.uint8)
    examples = Images(images, torch.randint(0, 10, (job.images,)))
    batches = Clocked(DataLoader(examples, batch_size=job.batch_size))

    def work() -> None:
        batches.waited = 0
        lmc(network, a, b, batches, ALPHAS)
        llfc(network, a, b, batches, LLFC_ALPHAS)

    seconds = _median_seconds(work, job.repeats)
    return {"seconds": seconds, "waiting for data": batches.waited, "features (MB)": _feature_megabytes(job)}


def _feature_megabytes(job: Job) -> float:
    """Of the dataset: those of A, of B and of one theta_alpha."""
    batch = job._replace(batch_size=1).batch()
    one = features_of(job.network(0).eval(), job.network(0).state_dict(), [batch])
    return 3 * job.images * sum(feature.nbytes for feature in one.values()) / 1e6


def _median_seconds(work: Callable[[], None], repeats: int) -> float:
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        work()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


WORKS: dict[str, Callable[[Job], dict[str, float]]] = {
    "forward": forward,
    "training step": training_step,
    "path evaluation": path_evaluation,
}
"""By the names of the benchmark's rows."""


def _peak_memory_bytes() -> int:
    if DEVICE == "cuda":
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main(argument: str) -> None:
    """Do one job and print what was measured as JSON."""
    fields = json.loads(argument)
    work, job = WORKS[fields.pop("work")], Job(**fields)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = job.precision != "float32"
    measured = work(job)
    measured["peak memory (MB)"] = _peak_memory_bytes() / 1e6
    print(json.dumps(measured))


if __name__ == "__main__":
    main(sys.argv[1])
