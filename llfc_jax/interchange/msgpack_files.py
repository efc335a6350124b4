"""Flax's msgpack, as `flax.serialization.to_bytes` makes it; read only."""

from pathlib import Path

import flax.serialization

from llfc_jax.errors import UserError
from llfc_jax.interchange.format import Format
from llfc_jax.interchange.reading import digest, readable
from llfc_jax.interchange.stored import File, flatten, in_memory, in_natural_order


def recognises(path: Path, start: bytes) -> bool:
    """Whether a file begins as a mapping."""
    del path
    return bool(start) and (0x81 <= start[0] <= 0x8F or start[0] in (0xDE, 0xDF))


def read(path: Path) -> File:
    """All arrays, by their paths in the tree.

    Raises:
        UserError: the file is damaged, or has no arrays.
    """
    with readable(path):
        tree = flax.serialization.msgpack_restore(path.read_bytes())
        stored = {name: in_memory(leaf) for name, leaf in flatten(tree).items() if leaf.dtype != object}
    if not stored:
        raise UserError(f"{path}: expected arrays; found none")
    return File(in_natural_order(stored), "msgpack", digest(path), {}, False, {})


FORMAT = Format("Flax (msgpack)", recognises, read)
