"""The look of every figure. Matplotlib is imported nowhere else, and only when a figure is drawn."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMN = 3.25
"""Inches: one column of a two-column paper."""

PAGE = 6.75
"""Inches: both columns."""

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours, told apart with any colour vision; their yellow is too pale for lines on white."""

QUANTITIES = ("#332288", "#CC6677", "#44AA99", "#AA4499", "#999933")
"""Tol's muted colours, for what is neither a path, nor an α, nor a network."""

MARKERS = ("o", "s", "^", "D", "v", "P")
LEAST_PLAIN = 2e-5
"""An axis that starts here has plain numbers for ticks; below, powers of ten."""

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
    "figure.dpi": 300,  # as that of files, which then are drawn by the measures of the layout
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
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)  # what knows the sizes of texts: else each pass of the layout measures them anew
    return made


def path_colours(paths: Sequence[str]) -> dict[str, Any]:
    """A colour for each path of a report: the palette while it lasts, else a perceptually uniform map's."""
    if len(paths) <= len(PALETTE):
        return dict(zip(paths, PALETTE, strict=False))
    import matplotlib

    # The map's last part is too pale for lines on white.
    shades = [matplotlib.colormaps["viridis"](0.88 * index / (len(paths) - 1)) for index in range(len(paths))]
    return dict(zip(paths, shades, strict=True))


def alpha_colour(alpha: float) -> Any:
    """The colour of θ_α, from A's to B's."""
    import matplotlib

    return matplotlib.colormaps["plasma"](0.03 + 0.75 * alpha)


def network_colours(names: Sequence[str]) -> dict[str, Any]:
    """A colour for each network: A's and B's are those of the ends of the path."""
    return {name: alpha_colour(index / max(1, len(names) - 1)) for index, name in enumerate(names)}


def widths(count: int) -> list[float]:
    """Line widths, falling: of curves that coincide, all stay visible."""
    return [1.0 + 0.5 * (count - 1 - index) * min(1, 5 / max(1, count)) for index in range(count)]


def plain(text: str) -> str:
    """A name that Matplotlib takes for no mathematics."""
    return text.replace("$", r"\$")


def log_ticks(axis: Any) -> None:
    """Ticks of a logarithmic axis as numbers that are read at sight: 20, 30, 50; 0.01, not 10⁻².

    Powers of ten are left to axes that reach below `LEAST_PLAIN`.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = sorted(axis.get_view_interval())
    decades = math.log10(high / low)
    steps = (1.0,) if decades > 2.5 else (1.0, 2.0, 5.0) if decades > 1 else (1.0, 2.0, 3.0, 4.0, 5.0, 7.0)
    axis.set_major_locator(LogLocator(subs=steps, numticks=12))
    show = _plain_number if low >= LEAST_PLAIN else _power
    axis.set_major_formatter(FuncFormatter(lambda value, _: show(value)))
    axis.set_minor_formatter(NullFormatter())


def _plain_number(value: float) -> str:
    return np.format_float_positional(value, precision=8, trim="-")


def _power(value: float) -> str:
    exponent = math.floor(math.log10(value) + 1e-9)
    digit = round(value / 10**exponent)
    return f"$10^{{{exponent}}}$" if digit == 1 else f"${digit}\\times10^{{{exponent}}}$"
