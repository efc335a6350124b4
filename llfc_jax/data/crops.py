"""What is done to texts in training: they are cut elsewhere each time."""

import jax
import jax.numpy as jnp

from llfc_jax.types import Array, PRNGKey


def crop(key: PRNGKey, data: tuple[Array, Array], index: Array) -> tuple[Array, Array]:
    """Blocks of a text that begin anywhere in those of the given indices, and run on into the next.

    Args:
      key: draws where they begin.
      data: bytes and the ones after them, both `(N, block)`, that make a text when read on from row to row.
      index: `(n,)` rows.

    Returns:
      The same of other blocks, `(n, block)`; none runs beyond the end.

    >>> text = jnp.arange(12, dtype=jnp.uint8)
    >>> rows = text[:9].reshape(3, 3), text[1:10].reshape(3, 3)
    >>> inputs, labels = crop(jax.random.key(0), rows, jnp.array([0, 1, 2]))
    >>> bool((labels == inputs + 1).all()), bool((inputs[:, 1:] == inputs[:, :-1] + 1).all())
    (True, True)
    """
    inputs, labels = data
    count, block = inputs.shape
    starts = index * block + jax.random.randint(key, index.shape, 0, block)
    places = jnp.minimum(starts, (count - 1) * block)[:, None] + jnp.arange(block)[None]
    return inputs.ravel()[places], labels.ravel()[places]
