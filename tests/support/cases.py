"""The networks that PyTorch is compared on: what they are here, and the images they see."""

import math
from typing import NamedTuple

import numpy as np

CIFAR, MNIST, COLOUR = (32, 32, 3), (28, 28, 1), (64, 64, 3)


class Case(NamedTuple):
    """A network: the `model` section of its configuration, and the shape of its images."""

    config: dict
    shape: tuple[int, int, int]


CASES = {
    "mlp": Case({"name": "mlp", "hidden": (12, 12, 12)}, MNIST),
    "mlp on colour": Case({"name": "mlp", "hidden": (12,)}, (8, 8, 3)),
    "lenet": Case({"name": "lenet", "width": 1 / 4}, MNIST),
    "vgg11": Case({"name": "vgg11", "width": 1 / 32}, CIFAR),
    "vgg16_bn": Case({"name": "vgg16", "width": 1 / 64, "norm": "batch", "head": (512, 512)}, CIFAR),
    "vgg16 of torchvision": Case({"name": "vgg16", "width": 1 / 64, "pool": 7, "head": (512, 512)}, COLOUR),
    "resnet20": Case({"name": "resnet20", "width": 1 / 8}, CIFAR),
    "resnet20, option B": Case({"name": "resnet20", "width": 1 / 8, "shortcut": "conv"}, CIFAR),
    "resnet18 with the small stem": Case({"name": "resnet18", "width": 1 / 16, "stem": "cifar"}, CIFAR),
    "resnet50 of torchvision": Case({"name": "resnet50", "width": 1 / 16}, COLOUR),
    "wideresnet10": Case({"name": "wideresnet10", "width": 1 / 2}, CIFAR),
}


def some_images(shape):
    """(3, height, width, channels) float32 of different contrasts, the same on every machine."""
    pixels = np.arange(3 * math.prod(shape), dtype=np.int64) ** 2 % 251
    contrasts = np.array([1, -1, 3]).reshape(3, 1, 1, 1)
    return (contrasts * (pixels / 125 - 1).reshape(3, *shape)).astype(np.float32)


def relative_error(found, expected):
    """The largest deviation, against how much the expected logits vary from image to image."""
    return np.abs(found - expected).max() / np.abs(expected - expected.mean(0)).max()
