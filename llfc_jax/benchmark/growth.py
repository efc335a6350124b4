"""How the cost of path evaluation grows: an MLP's, with one thing at a time made larger.

`python -m llfc_jax.benchmark --growth`, 3 minutes on the machine of `llfc_jax.benchmark`:

    From 4,000 images, 25 alphas, 3 layers, width 256
 growth of  s, x1  s, x2  s, x4  MB, x1  MB, x2  MB, x4
 ───────────────────────────────────────────────────────
 images     0.333  0.756   1.41     512     525     533
 alphas     0.333  0.512   1.35     512     505     504
 layers     0.333  0.851   1.91     512     503     518
 width      0.333   1.23   4.75     512     552     591

Time is linear in images and alphas, and memory does not depend on them. The first layer is linear in alpha
and computed at the ends alone, which is why an MLP's path beats its own forward passes (`peak` above 1), and
why time grows faster than the number of layers: of 3 layers, 2 hidden ones are computed at every alpha, of
12, 11.
"""

from collections.abc import Callable, Mapping
from typing import Any

from rich import box
from rich.table import Table

from llfc_jax.benchmark.cases import CASES, Case

KIND = "growth"
TIMES = (2, 4)
_BASE, _HIDDEN, _LAYERS = "growth, from", 256, 3


def _with_layers(case: Case, layers: int, width: int) -> Case:
    return case._replace(model=case.model | {"hidden": (width,) * layers})


_LARGER: dict[str, Callable[[Case, int], Case]] = {
    "images": lambda case, times: case._replace(images=times * case.images),
    "alphas": lambda case, times: case._replace(alphas=times * (case.alphas - 1) + 1),
    "layers": lambda case, times: _with_layers(case, times * _LAYERS, _HIDDEN),
    "width": lambda case, times: _with_layers(case, _LAYERS, times * _HIDDEN),
}
"""What grows -> a case, how many times -> the larger case."""

_SMALL = _with_layers(CASES["mlp"]._replace(images=4_000), _LAYERS, _HIDDEN)
GROWING: dict[str, Case] = {_BASE: _SMALL} | {
    f"growth, {factor} x{times}": larger(_SMALL, times)
    for factor, larger in _LARGER.items()
    for times in TIMES
}
"""By the names of the rows."""


def table(measured: Mapping[str, Mapping[str, Any]]) -> Table:
    """Seconds and memory with each factor at once, twice and four times its size; blank if not measured."""
    title = f"From {_SMALL.images:,} images, {_SMALL.alphas} alphas, {_LAYERS} layers, width {_HIDDEN}"
    result = Table("growth of", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=title)
    columns = ("seconds", "peak memory (MB)")
    for unit in ("s", "MB"):
        for times in (1, *TIMES):
            result.add_column(f"{unit}, x{times}", justify="right")
    for factor in _LARGER:
        rows = [measured.get(name, {}) for name in (_BASE, *(f"growth, {factor} x{t}" for t in TIMES))]
        result.add_row(factor, *(f"{row[column]:,.3g}" if row else "" for column in columns for row in rows))
    return result
