"""What well-known PyTorch code calls the layers of our networks.

A table maps the stages of a network (all of them, or those it knows by name) to the modules of a state dict.
The LLFC authors' code is github.com/zzp1012/LLFC, src/model.
"""

import contextlib
import inspect
import itertools
import re
from collections.abc import Callable, Iterator

from llfc_jax.errors import UserError
from llfc_jax.models import MODELS, Network

Names = dict[str, str]
"""Stage -> module."""


def sequential(network: Network) -> Names:
    """The authors' MLP: one `nn.Sequential` called `layers`, in which activations count too."""
    steps = (stage.name for stage in network.stages if stage.kind != "flatten")
    return {name: f"layers.{index}" for index, name in enumerate(steps)}


def lenet(network: Network) -> Names:
    """The authors' LeNet."""
    del network
    return {"conv1": "conv1", "conv2": "conv2", "dense3": "fc1", "dense4": "fc2", "dense5": "fc3"}


def vgg(network: Network) -> Names:
    """VGG of the authors and of torchvision: `features`, in which everything counts, then `classifier`."""
    steps = [stage.name for stage in network.stages]
    features = filter(re.compile(r"(conv|norm|relu)\d_\d|pool\d").fullmatch, steps)
    heads = filter(re.compile(r"dense\d").fullmatch, steps)
    return {
        **{name: f"features.{index}" for index, name in enumerate(features)},
        # Each hidden linear layer is followed by its ReLU and its dropout.
        **{name: f"classifier.{3 * index}" for index, name in enumerate(heads)},
    }


def authors_resnet(network: Network) -> Names:
    """The authors' CIFAR ResNets, ResNet-18 to 50 with the small stem included."""
    return _residual(network, shortcut="shortcut", head="linear")


def torchvision_resnet(network: Network) -> Names:
    """The ResNets of torchvision."""
    return _residual(network, shortcut="downsample", head="fc")


TABLES: dict[str, Callable[[Network], Names]] = {
    "the LLFC authors' MLP": sequential,
    "the LLFC authors' LeNet": lenet,
    "the LLFC authors' and torchvision's VGG": vgg,
    "the LLFC authors' ResNet": authors_resnet,
    "torchvision's ResNet": torchvision_resnet,
}


def nearest(modules: set[str], input_shape: tuple[int, ...]) -> str:
    """The known architecture that shares most of its modules' names with a file.

    Args:
        modules: names of all modules in the file.
        input_shape: of one image.

    Example:
        >>> nearest({"conv1", "conv2", "fc1", "fc2"}, (28, 28, 1))
        "model.name=lenet in the names of the LLFC authors' LeNet"
    """
    overlaps = {}
    for description, network in _architectures(input_shape):
        stages = {stage.name for stage in network.stages if stage.kind in ("conv", "dense", "norm")}
        for title, table in {"llfc_jax": _own, **TABLES}.items():
            known = {module for name, module in table(network).items() if name in stages}
            overlap = len(known & modules) / len(known | modules)
            overlaps[f"{description} in the names of {title}"] = overlap
    best = max(overlaps, key=overlaps.__getitem__)
    return best if overlaps[best] > 0 else "none"


def _own(network: Network) -> Names:
    return {stage.name: stage.name for stage in network.stages}


def _architectures(input_shape: tuple[int, ...]) -> Iterator[tuple[str, Network]]:
    """Every model that takes such images, with every norm and shortcut, and its description."""
    for name, build in MODELS.items():
        variants = {"norm": ("none", "batch"), "shortcut": ("pad", "conv")}
        options = [option for option in variants if option in inspect.signature(build).parameters]
        for values in itertools.product(*(variants[option] for option in options)):
            chosen = dict(zip(options, values, strict=True))
            description = " ".join(f"model.{option}={value}" for option, value in chosen.items())
            with contextlib.suppress(UserError):
                yield f"model.name={name} {description}".strip(), build(input_shape, 10, **chosen)


def _residual(network: Network, shortcut: str, head: str) -> Names:
    names = {"conv0": "conv1", "norm0": "bn1", "dense": head}
    inside = {"shortcut": f"{shortcut}.0", "shortcut_norm": f"{shortcut}.1"}
    for stage in network.stages:
        if found := re.fullmatch(r"block(\d+)_(\d+)\.(\w+)", stage.name):
            group, index, step = found.groups()
            module = inside.get(step) or step.replace("norm", "bn")
            names[stage.name] = f"layer{group}.{int(index) - 1}.{module}"
    return names
