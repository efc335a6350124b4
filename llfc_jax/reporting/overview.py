"""The tables of many runs: a short one for the terminal, rows for the page, a long one for other tools."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from llfc_jax.reporting import groups, reading
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
"""Those that a terminal has room for beside the labels of groups."""

VERDICTS = ("LMC", "LLFC")

MOST_VERDICTS = 8
"""More paths than these have their verdicts in the tables alone."""

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
                groups.count(path["lmc"]),
                groups.count(path["llfc"]),
            ],
        )
        for group, name, path in groups.told(results, "paths")
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
    ]


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
    for group, name, path in groups.told(results, "paths"):
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
    """Print barriers, LLFC and counted verdicts."""
    columns = QUANTITIES if len(results["groups"]) == 1 else {name: QUANTITIES[name] for name in IN_SHORT}
    table = Table(box=None, pad_edge=False, header_style="none")
    table.add_column(groups.field_names(results), vertical="bottom", overflow="fold")
    for head in (*columns.values(), *VERDICTS):
        table.add_column(head, justify="right", vertical="bottom", no_wrap=True)
    for row in paths(results, columns):
        table.add_row(row.name, *row.cells)
    title = "Barriers, and the distance of the worst layer in units of the nearer end's: mean ± deviation"
    console.print(title, style="bold")
    console.print(table, "", sep="\n")
    said = list(verdicts(results))
    for name, path in said if len(said) <= MOST_VERDICTS else ():
        console.print(f"{name}: {sentence(path)}.", "", sep="\n")


def table(results: Results) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
    """The head and the rows of `runs.csv`: a row for each run, path or network, and quantity.

    | column | meaning |
    |---|---|
    | run, seed | name of the run, its seed |
    | … | a column for each field in which the groups differ |
    | of | key of a path, such as `a-b_aligned`, or of a network, `a` |
    | quantity | of a path `test_loss_barrier`, …, `llfc_median` and `llfc_worst` (of the layers' distances
      from the line, in units of the nearer end's); of a network `test_loss`, … |
    | value | in nats, fractions, units; empty where undefined |
    """
    fields = list(results["groups"][0]["fields"])
    return ["run", *fields, "seed", "of", "quantity", "value"], _rows(results)


def _rows(results: Results) -> Iterator[tuple[Any, ...]]:
    for group in results["groups"]:
        of_all = {name: path["quantities"] for name, path in group["paths"].items()} | group["networks"]
        values = [groups.value_label(value) for value in group["fields"].values()]
        for at, (run, seed) in enumerate(group["runs"].items()):
            for name, quantities in of_all.items():
                for quantity, found in quantities.items():
                    yield (run, *values, seed, name, quantity, found["each"][at])


def _of_run(quantity: str, found: Results | None, at: int) -> str:
    return "–" if found is None else shown(quantity, found["each"][at])


def _is_error(quantity: str) -> bool:
    return "_error" in quantity
