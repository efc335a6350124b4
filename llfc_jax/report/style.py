"""The look of every figure. Matplotlib is imported nowhere else, and only when a figure is drawn."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMN = 3.25
"""Inches: one column of a two-column paper."""

PAGE = 6.75
"""Inches: both columns."""

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours, told apart with any colour vision; their yellow is too pale for lines on white."""

MARKERS = ("o", "s", "^", "D", "v", "P")
INK = "#1A1A1A"
GREY = "#767676"
PALE = "#F1F1F1"

RC: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # ships with Matplotlib: no warning of a missing font
    "mathtext.fontset": "dejavusans",
    "font.size": 7,
    "axes.labelsize": 7.5,
    "axes.titlesize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.columnspacing": 1.2,
    "legend.handletextpad": 0.5,
    "legend.borderaxespad": 0.2,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "ytick.minor.size": 1.5,
    "ytick.minor.width": 0.4,
    "lines.linewidth": 1.2,
    "lines.markersize": 3,
    "errorbar.capsize": 1.5,
    "figure.dpi": 100,
    "savefig.dpi": 300,
    "svg.fonttype": "path",
    "svg.hashsalt": "llfc_jax",  # without a salt, the identifiers in an SVG change with every run
}


@contextlib.contextmanager
def applied() -> Iterator[None]:
    """Matplotlib in this style, whatever the user's own configuration says, until the block ends."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        yield


def figure(width: float, height: float) -> "Figure":
    """An empty figure, in inches. Made without pyplot, it needs no display and leaves no state behind."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def colours(count: int) -> list[Any]:
    """`count` distinct colours: the palette while it lasts, else samples of a perceptually uniform map."""
    if count <= len(PALETTE):
        return list(PALETTE[:count])
    import matplotlib

    # The map's last part is too pale for lines on white.
    return [matplotlib.colormaps["viridis"](0.88 * index / (count - 1)) for index in range(count)]
