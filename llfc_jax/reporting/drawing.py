"""From results to figures as files: whatever the registry of `figures` can draw."""

import contextlib
import io
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from llfc_jax.reporting import helpers, style
from llfc_jax.reporting.figures import FIGURES
from llfc_jax.reporting.reading import Results
from llfc_jax.storage.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNDATED = {"png": {"Software": None}, "svg": {"Date": None}}
"""Format -> metadata to leave out."""


class Drawing(NamedTuple):
    """A figure as files, which hold no date: the same results give the same bytes."""

    name: str
    files: dict[str, bytes]
    """`png` and `svg`."""
    wide: bool
    """Whether it is wider than a column."""


def drawn(results: Results) -> Iterator[tuple[str, "Figure"]]:
    """Draws, in the registry's order, every figure that the results allow.

    Args:
      results: The contents of `results.json`.

    Yields:
      Names and figures. The style holds until the next one is asked for: save a figure before that.
    """
    for name in FIGURES:
        with _drawn(name, results) as figure:
            if figure is not None:
                yield name, figure


@contextlib.contextmanager
def _drawn(name: str, results: Results) -> Iterator["Figure | None"]:
    """A figure of the registry, while the style holds."""
    with style.applied():
        if (figure := FIGURES[name].draw(results)) is not None:
            _lay_out(figure)
        yield figure


def draw(results: Results) -> Iterator[Drawing]:
    """Draws, in the registry's order, every figure that the results allow, and encodes it.

    Args:
      results: The contents of `results.json`.
    """
    yield from filter(None, helpers.draw_each(partial(draw_one, results=results), FIGURES, results))


def draw_one(name: str, results: Results) -> Drawing | None:
    """Draws a figure of the registry and encodes it; None where the results lack its measure."""
    with _drawn(name, results) as figure:
        if figure is None:
            return None
        files = {suffix: _encode(figure, suffix) for suffix in UNDATED}
        return Drawing(name, files, wide=figure.get_figwidth() > style.COLUMN)


def write(drawings: Iterable[Drawing], directory: Path | str) -> list[Path]:
    """Writes figures as `directory/NAME.png` and `directory/NAME.svg`.

    Args:
      drawings: From `draw`.
      directory: Where to write; made if it is missing.

    Returns:
      The files written.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for drawing in drawings:
        for suffix, content in drawing.files.items():
            written.append(directory / f"{drawing.name}.{suffix}")
            write_bytes(written[-1], content)
    return written


def _lay_out(figure: "Figure") -> None:
    """Finds everything its place, for good; without drawing it, which would take as long again."""
    engine = figure.get_layout_engine()
    if engine is not None:
        for _ in range(2):  # it settles in its second pass
            engine.execute(figure)
        figure.set_layout_engine(None)  # "none" leaves a stand-in, for whose sake each file is drawn twice


def _encode(figure: "Figure", suffix: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=suffix, metadata=UNDATED[suffix])
    return buffer.getvalue()
