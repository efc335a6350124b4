"""Texts as byte-level examples: blocks of bytes, each labelled by the byte that follows."""

from collections.abc import Mapping

import numpy as np

from llfc_jax.data.dataset import Source, Split, in_memory
from llfc_jax.errors import UserError
from llfc_jax.runtime.limits import host_memory_bytes
from llfc_jax.storage.paths import expand

BYTES = 256
"""Classes: a byte has no unknown words."""

_TEST = 10
"""One part in so many, at the end of a file, is its test split."""
_BYTES_HELD = 8
"""For each byte of text: itself and its label of 32 bits in a block, while they are made of another copy."""


def open_text_file(name: str, block: int, memory: int | None = None) -> Source:
    """Opens a file of UTF-8 text, of which the last tenth is the test split.

    Args:
      name: the path of the file.
      block: bytes that a network sees at a time.
      memory: bytes that it may take; None: all there is.

    Raises:
      UserError: there is no such file, it isn't UTF-8 or doesn't fit into memory, or a split is too short for
        a block.
    """
    where = f"data.name={name!r}"
    path = expand(name, "data.name")
    if not path.is_file():
        raise UserError(f"{where}: no such file")
    check_fits(path.stat().st_size, where, memory)
    content = path.read_bytes()
    try:
        content.decode()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where}: expected text in UTF-8; found byte 0x{content[error.start]:02x} at {error.start:,}, "
            "which is none"
        ) from error
    end = len(content) - len(content) // _TEST
    return source_of_texts({"train": content[:end], "test": content[end:]}, block, name)


def check_fits(size: int, where: str, memory: int | None = None) -> None:
    """That blocks of so many bytes of text can be held in memory, since texts aren't streamed.

    Args:
      size: bytes of text.
      where: the field that an error names.
      memory: bytes that they may take; None: all there is.

    Raises:
      UserError: they can't.
    """
    allowed = host_memory_bytes() if memory is None else memory
    if size * _BYTES_HELD > allowed:
        raise UserError(
            f"{where} doesn't fit into memory: it has {size:,} bytes; expected {allowed // _BYTES_HELD:,} at "
            "most (data.memory), since texts aren't streamed"
        )


def source_of_texts(texts: Mapping[str, bytes], block: int, name: str) -> Source:
    """Each split's text as blocks of `block` bytes; `name` is the data set's, for an error.

    Raises:
      UserError: a text is too short for one block and the byte after it.
    """
    for split, text in texts.items():
        if len(text) < 2:
            raise UserError(
                f"data.name={name!r}: expected a {split} text of two bytes at least; found {len(text)}"
            )
        if len(text) <= block:
            raise UserError(
                f"data.block: expected less than {len(text):,} bytes, which the {split} text of {name} has; "
                f"found {block:,}"
            )
    return in_memory({split: blocks(text, block) for split, text in texts.items()}, BYTES)


def blocks(text: bytes, block: int) -> Split:
    """Blocks that don't overlap, in order; what is left over at the end is dropped.

    Returns:
      Bytes `(n, block)` uint8, and for each the one after it, `(n, block)` int32.

    >>> inputs, labels = blocks(b"abcdefgh", 3)
    >>> [bytes(row) for row in inputs], [bytes(row.astype(np.uint8)) for row in labels]
    ([b'abc', b'def'], [b'bcd', b'efg'])
    """
    stream = np.frombuffer(text, np.uint8)
    n = (len(stream) - 1) // block
    inputs, labels = (stream[start : start + n * block].reshape(n, block) for start in (0, 1))
    return Split(inputs.copy(), labels.astype(np.int32))
