"""The tables of many runs: short ones for the terminal, rows for the page."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from rich.align import Align
from rich.console import Console
from rich.table import Table

from llfc_jax.reporting import groups, reading
from llfc_jax.reporting.judgement import Answer
from llfc_jax.reporting.quantities import Place, places
from llfc_jax.reporting.reading import Results

QUANTITIES = {
    "test_loss_barrier": "test\nloss",
    "test_error_barrier": "test\nerror %",
    "train_loss_barrier": "train\nloss",
    "train_error_barrier": "train\nerror %",
    "llfc_worst": "worst\nlayer",
}
"""Of a path -> the head of its column."""

IN_SHORT = ("test_loss_barrier", "test_error_barrier", "llfc_worst")
"""Those that a terminal has room for beside long labels."""

LONG = 12
"""Letters of a label beyond which it is."""

VERDICTS = ("LMC", "LLFC")

MOST_VERDICTS = 8
"""More paths than these have their verdicts in the tables alone."""

MOST_MEASURED = 16
"""More numbers of other measures than these are in the report and `measures.csv` alone."""

EXTREMES = ("least", "largest")
"""Heads of the columns of other measures."""

_NEITHER = {
    Answer.IN_PART: "in part",
    Answer.OPEN: "open",
    Answer.TRIVIAL: "trivial",
    Answer.UNDEFINED: "undefined",
    Answer.UNJUDGED: "not judged",
}
"""What neither holds nor fails, in a word."""

ENDS = {
    "test_loss": "test\nloss",
    "test_error": "test\nerror %",
    "train_loss": "train\nloss",
    "train_error": "train\nerror %",
}
"""The same of a network."""


class Row(NamedTuple):
    """A path or a network of a group, or of a run."""

    name: str
    cells: list[str]


def paths(results: Results, quantities: Iterable[str] = tuple(QUANTITIES)) -> list[Row]:
    """Barriers and LLFC of every path in every group, and in how many runs they hold; what is alike once."""
    return [
        Row(
            groups.named(groups.short_label(group), reading.path_label(name)),
            [
                *(spread(quantity, path["quantities"].get(quantity)) for quantity in quantities),
                counted(path["lmc"]),
                counted(path["llfc"]),
            ],
        )
        for group, name, path in _judged(results)
    ]


def measures(results: Results) -> list[Row]:
    """The numbers of other measures: the least and the largest of a path's layers, or along it, and where."""
    return [
        Row(f"{path}: {entry['quantities'][name]}", cells)
        for path, found in groups.lines(results).items()
        for entry in found.get("measures", {}).values()
        for name in entry["quantities"]
        if (cells := _least_and_largest(places(entry, name)))
    ]


def networks(results: Results) -> list[Row]:
    """Losses and errors of every network in every group; what is alike once."""
    return [
        Row(
            groups.named(groups.short_label(group), reading.network_label(name)),
            [spread(quantity, found[quantity]) for quantity in ENDS],
        )
        for group, name, found in groups.told(results, "networks")
    ]


def each_run(results: Results) -> list[Row]:
    """Barriers, LLFC and verdicts of every path in every run."""
    return [
        Row(
            groups.named(run, reading.path_label(name)),
            [
                *(_of_run(quantity, path["quantities"].get(quantity), at) for quantity in QUANTITIES),
                path["lmc"][at],
                path["llfc"][at],
            ],
        )
        for group in results["groups"]
        for at, run in enumerate(group["runs"])
        for name, path in group["paths"].items()
        if path["quantities"]
    ]


def counted(answers: Sequence[str]) -> str:
    """In how many runs it holds, and in how many others it doesn't fail either.

    >>> counted(["holds", "does not hold", "is undecided"]), counted(["holds in part"] * 2)
    ('1 of 3; 1 open', '0 of 2; 2 in part')
    """
    others = {answer.value: word for answer, word in _NEITHER.items()}
    return "; ".join(
        [
            groups.count(answers),
            *(
                f"{answers.count(answer)} {others[answer]}"
                for answer in dict.fromkeys(answers)
                if answer in others
            ),
        ]
    )


def spread(quantity: str, found: Results | None) -> str:
    """Mean ± standard deviation, to as many digits.

    >>> spread("test_error", {"mean": 0.024, "std": 0.0012}), spread("llfc_worst", None)
    ('2.40 ± 0.12', '–')
    >>> spread("test_loss", {"mean": 1.5, "std": None}), spread("test_loss_barrier", {"mean": 0, "std": 0})
    ('1.500', '0 ± 0')
    """
    if found is None:
        return "–"
    mean = shown(quantity, found["mean"])
    if found["std"] is None:
        return mean
    digits = len(mean.partition(".")[2])
    return f"{mean} ± {found['std'] * (100 if _is_error(quantity) else 1):.{digits}f}"


def shown(quantity: str, value: float | None) -> str:
    """A number in its column's unit."""
    if _is_error(quantity):
        return reading.percent(value).removesuffix(" %")
    return reading.ratio(value) if quantity.startswith("llfc") else reading.nats(value)


def verdicts(results: Results) -> Iterator[tuple[str, Results]]:
    """Of every path in every group its name, and what is said of it; of what is alike once."""
    for group, name, path in _judged(results):
        yield groups.named(groups.label(group), reading.path_label(name)), path


def sentence(path: Results) -> str:
    """In how many runs LMC and LLFC hold, and what they do in the others.

    >>> sentence({"lmc": ["holds", "holds"], "llfc": ["holds in part", "holds"]})
    'LMC holds in 2 of 2 runs. LLFC holds in 1 of 2 runs; holds in part in 1'
    """
    return ". ".join(
        f"{name} holds in {groups.count(answers)} runs"
        + "".join(
            f"; {answer} in {answers.count(answer)}" for answer in dict.fromkeys(answers) if answer != "holds"
        )
        for name, answers in (("LMC", path["lmc"]), ("LLFC", path["llfc"]))
        if {*answers} != {groups.NOT_MEASURED}
    )


def terminal(console: Console, results: Results) -> None:
    """Print barriers, LLFC and counted verdicts, and a few numbers of other measures."""
    if any(_judged(results)):
        _print_judged(console, results)
    rows = measures(results)
    if len(rows) > MOST_MEASURED:
        console.print(f"{reading.count(len(rows), 'number')} of other measures in report.html", "", sep="\n")
    elif rows:
        table = _table(results, EXTREMES)
        for row in rows:
            table.add_row(row.name, *row.cells)
        title = "Other measures, over layers or α: mean ± deviation"
        console.print(title, style="bold")
        console.print(table, "", sep="\n")
    for name, how in results.get("diverged", {}).items():
        console.print(f"{name} diverged and is left out: {how}", "", sep="\n", markup=False)


def _print_judged(console: Console, results: Results) -> None:
    long = max(len(row.name) for row in paths(results)) > LONG
    columns = {name: QUANTITIES[name] for name in IN_SHORT} if long else QUANTITIES
    table = _table(results, (*columns.values(), *VERDICTS))
    for row in paths(results, columns):
        table.add_row(row.name, *(cell.replace("; ", "\n") for cell in row.cells))
    title = "Barriers, and the distance of the worst layer in units of the nearer end's: mean ± deviation"
    console.print(title, style="bold")
    console.print(table, "", sep="\n")
    said = list(verdicts(results))
    for name, path in said if len(said) <= MOST_VERDICTS else ():
        console.print(f"{name}: {sentence(path)}.", "", sep="\n")


def _table(results: Results, heads: Iterable[str]) -> Table:
    """An empty one: heads end on one line, cells begin on one."""
    table = Table(box=None, pad_edge=False, header_style="none")
    table.add_column(Align(groups.field_names(results), vertical="bottom"), overflow="fold")
    for head in heads:
        table.add_column(Align.right(head, vertical="bottom"), justify="right", no_wrap=True)
    return table


def _least_and_largest(taken: Sequence[Place]) -> list[str]:
    """Cells; empty where no place has a number."""
    known = [place for place in taken if place.found["mean"] is not None]
    if not known:
        return []
    by_mean = sorted(known, key=lambda place: place.found["mean"])
    return [_at(place) for place in (by_mean[0], by_mean[-1])][: len(taken)] + [""] * (len(taken) == 1)


def _at(place: Place) -> str:
    """A number and where it was taken.

    >>> _at(Place("relu1", 0.5, {"mean": 0.99988, "std": 0.00012}))
    '0.99988 ± 0.00012 (relu1)'
    >>> _at(Place(None, 0.5, {"mean": 2.0, "std": None}))
    '2 (α = ½)'
    """
    where = place.layer or (None if place.alpha is None else f"α = {reading.alpha_label(place.alpha)}")
    cell = _with_deviation(place.found["mean"], place.found["std"])
    return f"{cell} ({where})" if where else cell


def _with_deviation(mean: float, deviation: float | None) -> str:
    """Of any magnitude, to two digits of the deviation.

    >>> _with_deviation(61.7, 4.2), _with_deviation(2.2e-05, 8.6e-06), _with_deviation(3.0, 0.0)
    ('61.7 ± 4.2', '2.2e-05 ± 8.6e-06', '3 ± 0')
    """
    if deviation is None:
        return reading.number(mean)
    if deviation > 0 and 1e-3 <= abs(mean) < 1e4:
        digits = min(max(0, 1 - math.floor(math.log10(deviation))), 6)
        return f"{mean:,.{digits}f} ± {deviation:,.{digits}f}"
    return f"{reading.number(mean)} ± {reading.number(deviation)}"


def _judged(results: Results) -> Iterator[tuple[Results, str, Results]]:
    """Group, name and what was found of the paths along which LMC or LLFC was measured."""
    return (one for one in groups.told(results, "paths") if one[2]["quantities"])


def _of_run(quantity: str, found: Results | None, at: int) -> str:
    return "–" if found is None else shown(quantity, found["each"][at])


def _is_error(quantity: str) -> bool:
    return "_error" in quantity
