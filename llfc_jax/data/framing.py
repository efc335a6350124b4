"""What a network sees of an image of any size: a crop of one size, on the host as the image is read.

In evaluation the shorter side is resized and the centre cut out; in training a part of random area, shape and
place is resized and mirrored with probability one half (Szegedy et al. 2015, arXiv 1409.4842). Sizes are
rounded as torchvision's `Resize`, `CenterCrop` and `RandomResizedCrop` do, whose checkpoints are measured.
"""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

_AREA = (0.08, 1.0)
_RATIO = (3 / 4, 4 / 3)
_LOG_RATIO = math.log(_RATIO[0]), math.log(_RATIO[1])
_TRIES = 10

Box = tuple[int, int, int, int]
"""Left, top, right and bottom."""


class Framing(NamedTuple):
    """How images of any size become images of one.

    Attributes:
      size: pixels a side.
      resize: of the shorter side before the centre is cut out, `size` or more.
      is_random: whether crops are random where a generator says which.
    """

    size: int
    resize: int
    is_random: bool = False


def frame(image: Image.Image, framing: Framing, generator: np.random.Generator | None) -> Image.Image:
    """The crop that evaluation sees, or where there is a generator, training.

    >>> frame(Image.new("RGB", (500, 375)), Framing(224, 256), None).size
    (224, 224)
    """
    if generator is None or not framing.is_random:
        return _centre(image, framing)
    side = framing.size, framing.size
    cut = image.crop(random_box(generator, image.width, image.height))
    cut = cut.resize(side, Image.Resampling.BILINEAR)
    return cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if generator.random() < 0.5 else cut


def random_box(generator: np.random.Generator, width: int, height: int) -> Box:
    """A part of 8 to 100 % of the area, of sides 3:4 to 4:3; the largest in the centre where none fits.

    >>> random_box(np.random.default_rng(0), 1000, 10)
    (493, 0, 506, 10)
    """
    for _ in range(_TRIES):
        area = width * height * generator.uniform(*_AREA)
        ratio = math.exp(generator.uniform(*_LOG_RATIO))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top, left = (int(generator.integers(room + 1)) for room in (height - h, width - w))
            return left, top, left + w, top + h
    least, most = _RATIO
    w, h = min(width, round(height * most)), min(height, round(width / least))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _centre(image: Image.Image, framing: Framing) -> Image.Image:
    shorter = min(image.size)
    if shorter != framing.resize:
        width, height = (framing.resize * side // shorter for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (round((side - framing.size) / 2) for side in image.size)
    return image.crop((left, top, left + framing.size, top + framing.size))
