"""What well-known PyTorch code calls the layers of our networks.

A table maps the stages of a network (all of them, or those it knows by name) to the modules of a state dict.
The LLFC authors' code is github.com/zzp1012/LLFC, src/model.
"""

import contextlib
import inspect
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from llfc_jax.errors import UserError
from llfc_jax.models import MODELS, Network, takes

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


def wide_resnet(network: Network) -> Names:
    """The WideResNet of xternalz and of whoever took it from there."""
    names = {"conv0": "conv1", "norm": "bn1", "dense": "fc"}
    for stage, (group, index, step) in _in_blocks(network):
        module = {"shortcut": "convShortcut"}.get(step) or step.replace("norm", "bn")
        names[stage] = f"block{group}.layer.{index}.{module}"
    return names


TABLES: dict[str, Callable[[Network], Names]] = {
    "the LLFC authors' MLP": sequential,
    "the LLFC authors' LeNet": lenet,
    "the LLFC authors' and torchvision's VGG": vgg,
    "the LLFC authors' ResNet": authors_resnet,
    "torchvision's ResNet": torchvision_resnet,
    "xternalz's WideResNet": wide_resnet,
}


def own(network: Network) -> Names:
    """Our own names."""
    return {stage.name: stage.name for stage in network.stages}


def nearest(files: Iterable[Mapping[str, frozenset[str]]], input_shape: tuple[int, ...]) -> str | None:
    """The known architecture that has just the modules of a file, at whatever widths; None if there is none.

    Args:
        files: name of each module that is a layer -> the roles of its arrays; once for each prefix that may
            have been put before the names.
        input_shape: of one image.

    Example:
        >>> lenet = dict.fromkeys(("conv1", "conv2", "fc1", "fc2", "fc3"), frozenset({"weight"}))
        >>> nearest([lenet], (28, 28, 1))
        "model.name=lenet in the names of the LLFC authors' LeNet"
        >>> nearest([{name: lenet[name] for name in ("fc1", "fc2", "fc3")}], (28, 28, 1))
    """
    parts = [(modules.keys(), _norm(modules.values())) for modules in files if modules]
    depths = {sum("weight" in roles or "kernel" in roles for roles in one.values()) for one in files}
    for description, norm, network in _architectures(input_shape, depths):
        stages = {stage.name for stage in network.stages if stage.kind in ("conv", "dense", "norm")}
        for title, table in {"llfc_jax": own, **TABLES}.items():
            known = {module for name, module in table(network).items() if name in stages}
            if len(known) == len(stages) and any(
                modules == known and norm in ("none", found) for modules, found in parts
            ):
                return f"{description} in the names of {title}"
    return None


def _norm(modules: Iterable[frozenset[str]]) -> str:
    """The normalisation of a network with running statistics, or without."""
    statistics = {"running_mean", "running_var", "mean", "var"}
    return "batch" if any(roles & statistics for roles in modules) else "layer"


def _architectures(input_shape: tuple[int, ...], depths: set[int]) -> Iterator[tuple[str, str, Network]]:
    """Every model that takes such inputs, with every norm and shortcut: description, norm and network."""
    for name, build in MODELS.items():
        if not takes(name, input_shape):
            continue
        accepted = inspect.signature(build).parameters
        variants: dict[str, Iterable] = {"norm": ("none", "batch", "layer"), "shortcut": ("pad", "conv")}
        if name == "mlp":
            variants["hidden"] = [(1,) * (depth - 1) for depth in sorted(depths) if 0 < depth < 100]
        options = [option for option in variants if option in accepted]
        for values in itertools.product(*(variants[option] for option in options)):
            chosen: dict[str, Any] = dict(zip(options, values, strict=True))
            described = {option: value for option, value in chosen.items() if option != "hidden"}
            description = " ".join(f"model.{option}={value}" for option, value in described.items())
            with contextlib.suppress(UserError):
                yield (
                    f"model.name={name} {description}".strip(),
                    chosen.get("norm", "none"),
                    build(input_shape, 10, **chosen),
                )


def _residual(network: Network, shortcut: str, head: str) -> Names:
    names = {"conv0": "conv1", "norm0": "bn1", "dense": head}
    inside = {"shortcut": f"{shortcut}.0", "shortcut_norm": f"{shortcut}.1"}
    for stage, (group, index, step) in _in_blocks(network):
        module = inside.get(step) or step.replace("norm", "bn")
        names[stage] = f"layer{group}.{index}.{module}"
    return names


def _in_blocks(network: Network) -> Iterator[tuple[str, tuple[int, int, str]]]:
    """The stages in blocks: name -> number of the group from 1, index in it from 0, and the step there."""
    for stage in network.stages:
        if found := re.fullmatch(r"block(\d+)_(\d+)\.(\w+)", stage.name):
            group, index, step = found.groups()
            yield stage.name, (int(group), int(index) - 1, step)
