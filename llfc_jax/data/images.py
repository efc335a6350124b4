"""What is done to images on the device: augmentation on the raw bytes, then normalisation."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.types import Array, PRNGKey


def normalise(images: Array | np.ndarray, mean: Sequence[float], std: Sequence[float]) -> Array:
    """Standardises images per channel: `(x / 255 - mean) / std`, or `(x - mean) / std` if they are floats.

    Args:
      images: `(..., channels)` uint8 or float32.
      mean: one number per channel.
      std: one number per channel.

    Returns:
      Images of the same shape, float32.

    >>> normalise(jnp.full((1, 2, 2, 1), 255, jnp.uint8), (0.5,), (0.25,)).ravel()
    Array([2., 2., 2., 2.], dtype=float32)
    """
    one_per_channel = (1,) * (images.ndim - 1) + (-1,)
    shift, scale = (jnp.asarray(moment, jnp.float32).reshape(one_per_channel) for moment in (mean, std))
    one = 255 if images.dtype == jnp.uint8 else 1
    return (jnp.asarray(images).astype(jnp.float32) / one - shift) / scale


def augment(key: PRNGKey, images: Array | np.ndarray, *, padding: int = 4, flip: bool = True) -> Array:
    """Crops each image at random after padding it with black, and mirrors it with probability ½.

    Meant for raw images, before `normalise`: the border is then black, as in torchvision's `RandomCrop`, and
    not the mean colour. One gather does both, with offsets and mirroring drawn per image.

    Args:
      key: source of randomness.
      images: `(n, height, width, channels)`, any dtype.
      padding: pixels added on each side before the crop; 0 leaves the image where it is.
      flip: whether to mirror left and right.

    Returns:
      Images of the same shape and dtype.
    """
    n, height, width, _ = images.shape
    crop_key, flip_key = jax.random.split(key)
    top, left = jax.random.randint(crop_key, (2, n, 1), 0, 2 * padding + 1)
    rows = top + jnp.arange(height)[None]
    columns = jnp.broadcast_to(jnp.arange(width), (n, width))
    if flip:
        mirrored = jax.random.bernoulli(flip_key, shape=(n, 1))
        columns = jnp.where(mirrored, columns[:, ::-1], columns)
    columns = left + columns
    padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    return padded[jnp.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]


def channel_moments(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per-channel mean and standard deviation of pixels in `[0, 1]`, over all images and positions.

    Sums over uint8 are taken over integer histograms, so they are exact and need no float copy of the images.
    A channel that is constant gets a deviation of 1, so that dividing by it is safe.

    Args:
      images: `(n, height, width, channels)` uint8 or float32 (whose pixels are taken as they are).
    """
    if images.dtype != np.uint8:
        columns = images.reshape(-1, images.shape[-1]).astype(np.float64)
        return _positive_std(columns.mean(axis=0), columns.std(axis=0))
    levels = np.arange(256) / 255
    histograms = np.zeros((images.shape[-1], 256))
    for image_block in np.array_split(images, -(-len(images) // 1024)):
        for channel, histogram in enumerate(histograms):
            histogram += np.bincount(image_block[..., channel].ravel(), minlength=256)
    weights = histograms / histograms.sum(axis=1, keepdims=True)
    mean = weights @ levels
    std = np.sqrt(np.sum(weights * (levels - mean[:, None]) ** 2, axis=1))
    return _positive_std(mean, std)


def _positive_std(mean: np.ndarray, std: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(mean.tolist()), tuple(np.where(std > 0, std, 1.0).tolist())
