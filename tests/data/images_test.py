"""Augmentation and normalisation against NumPy."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llfc_jax.data import augment, normalise
from llfc_jax.data.images import channel_moments


def _images(n: int, height: int, width: int, channels: int) -> np.ndarray:
    """Random images without black pixels, so that padding is recognisable."""
    return np.random.default_rng(0).integers(1, 256, (n, height, width, channels), dtype=np.uint8)


def test_normalise_agrees_with_float64() -> None:
    images, mean, std = _images(5, 4, 6, 3), (0.49, 0.48, 0.45), (0.2, 0.21, 0.22)
    result = jax.jit(normalise)(images, mean, std)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, (images / 255 - np.array(mean)) / np.array(std), rtol=1e-5, atol=1e-6)


def test_moments_are_those_of_numpy_and_standardise() -> None:
    images = _images(3000, 5, 4, 2)
    mean, std = channel_moments(images)
    np.testing.assert_allclose(mean, (images / 255).mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, (images / 255).std((0, 1, 2)), rtol=1e-12)
    standard = np.asarray(normalise(images, mean, std), np.float64)
    np.testing.assert_allclose(standard.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(standard.std((0, 1, 2)), 1, atol=1e-5)


def test_a_constant_channel_is_not_divided_by_zero() -> None:
    mean, std = channel_moments(np.zeros((2, 3, 3, 1), np.uint8))
    assert (mean, std) == ((0.0,), (1.0,))


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("padding", [0, 1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_every_augmented_image_is_a_crop_of_the_padded_one(flip: bool, padding: int, dtype: type) -> None:
    height, width = 5, 7
    images: np.ndarray = _images(2000, height, width, 2).astype(dtype)
    result = np.asarray(augment(jax.random.key(1), images, padding=padding, flip=flip))
    assert result.shape == images.shape
    assert result.dtype == dtype

    padded = np.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    found = np.zeros((len(images), 2 * padding + 1, 2 * padding + 1, 1 + flip), bool)
    for top, left, mirrored in np.ndindex(*found.shape[1:]):
        crop = padded[:, top : top + height, left : left + width]
        crop = crop[:, :, ::-1] if mirrored else crop
        found[:, top, left, mirrored] = (crop == result).all((1, 2, 3))
    assert (found.sum((1, 2, 3)) == 1).all()
    # Offsets and mirroring differ between images, and every combination occurs.
    assert found.any(0).all()


def test_offsets_and_mirroring_are_uniform_and_independent() -> None:
    n, padding = 20_000, 1
    coordinates = np.arange(1, 10, dtype=np.uint8).reshape(1, 3, 3, 1)
    images = np.repeat(coordinates, n, axis=0)
    result = np.asarray(augment(jax.random.key(2), images, padding=padding)).reshape(n, -1)
    _, counts = np.unique(result, axis=0, return_counts=True)
    assert len(counts) == 18
    # Five standard deviations of a binomial count.
    assert np.abs(counts - n / 18).max() < 5 * np.sqrt(n / 18 * 17 / 18)


def test_augment_depends_on_the_key_alone_and_compiles_once() -> None:
    images = _images(16, 8, 8, 3)
    compiled = jax.jit(chex.assert_max_traces(augment, n=1), static_argnames=("padding", "flip"))
    first, again, other = (compiled(jax.random.key(seed), images) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, augment(jax.random.key(0), images))
    assert (np.asarray(first) != np.asarray(other)).any()
