"""Permutations to plant, drawn by NumPy: JAX compiles a shuffle for each size."""

import jax
import numpy as np

from llfc_jax.symmetry.spec import shape_of_permutation


def some_permutation(seed, spec):
    """Every permutation of a spec drawn uniformly and independently, as by `random_permutation`."""
    rng, shapes = np.random.default_rng(seed), {name: shape_of_permutation(spec, name) for name in spec.sizes}
    places = {name: np.broadcast_to(np.arange(shape[-1]), shape) for name, shape in shapes.items()}
    return jax.device_put({name: np.int32(rng.permuted(own, axis=-1)) for name, own in places.items()})
