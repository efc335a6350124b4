"""The numbers as short tables for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from llfc_jax.reporting import overview, reading
from llfc_jax.reporting.console import written
from llfc_jax.reporting.judgement import Answer, Criteria, criteria, llfc_shares, verdict
from llfc_jax.reporting.reading import Results

MARKS = {
    Answer.HOLDS: ("yes", "green"),
    Answer.IN_PART: ("in part", "yellow"),
    Answer.FAILS: ("no", "red"),
    Answer.OPEN: ("open", "yellow"),
    Answer.TRIVIAL: ("trivial", "yellow"),
    Answer.UNDEFINED: ("undefined", "red"),
    Answer.UNJUDGED: ("not judged", "yellow"),
}
"""Answer -> how a table says it, and its colour."""

MAX_ROWS = 16
"""The terminal shows every layer of a network with no more than this many."""

FEW_STEPS = 2
"""An alignment by permutations alone has these: before and after, of which the barriers tell."""

MAX_PATHS = 3
"""Paths that fit side by side in 100 columns."""


def terminal(results: Results, width: int = 100, colour: bool = False) -> str:
    """A short summary: endpoints, barriers and verdict of each path, and each layer's LLFC distance.

    A network with more than `MAX_ROWS` layers is cut to its first, its last and its worst ones. Of many runs,
    barriers, LLFC and verdicts alone.

    Args:
      results: The contents of `results.json`.
      width: Columns at hand.
      colour: Whether to use a terminal's colours.

    Returns:
      The text, without a final newline.
    """
    draw = overview.terminal if "groups" in results else _print_run
    return written(lambda console: draw(console, results), width, colour)


def _print_run(console: Console, results: Results) -> None:
    paths = list(dict.fromkeys([*results.get("lmc", {}), *results.get("llfc", {})]))
    _print(console, "Endpoints", _endpoints(results))
    _print(console, "Barriers", _barriers(results, paths))
    for path, found in results.get("alignment", {}).items():
        if len(found.get("ladder", ())) > FEW_STEPS:
            title = f"{reading.path_label(path)}: what is left between the two"
            _print(console, title, _ladder(found["ladder"]))
        rungs = found.get("constraints", ())
        if len(rungs) > 1:
            title = f"{reading.path_label(path)}: what each of the network's constraints costs, in nats"
            _print(console, title, _constraints(rungs))
        elif rungs:
            console.print(f"{reading.path_label(path)}: {reading.UNCONSTRAINED}.", "", sep="\n")
    for path, found in results.get("samples", {}).items():
        _print(console, f"What they write: {reading.path_label(path)}", _samples(path, found))
    if llfc := results.get("llfc"):
        shown = sorted(llfc, key=lambda path: "/" in path)[:MAX_PATHS]  # plain paths before corrected ones
        shares = {path: llfc_shares(llfc[path], results["data"]["test_examples"]) for path in shown}
        rows = _rows_shown(np.stack([*shares.values()]))
        table = _layers(llfc, shares, rows, criteria(results).max_llfc)
        _print(console, _layers_title(llfc[shown[0]], len(rows)), table)
        if hidden := len(llfc) - len(shown):
            console.print(f"{reading.count(hidden, 'more path')} in report.html", "", sep="\n")
    for path in paths:
        console.print(Text(f"{reading.path_label(path)}: {verdict(results, path)}."), "", sep="\n")
    if perplexity := _perplexities(results):
        _print(console, "Perplexity", perplexity)
    if paths:
        console.print(describe(criteria(results), results["data"].get("num_classes"), llfc=bool(llfc)))


def describe(by: Criteria, classes: int | None, *, llfc: bool = True) -> str:
    """By which paths are judged, in a few words; a loss of the caller's own, without classes, is not.

    `llfc` is whether that was measured.

    >>> print(describe(Criteria(), classes=10))
    LMC: barriers below 2 % and 0.0461 nats, on test and train, for sure (95 %).
    LLFC: at α = ½ every layer at most 0.5 of the nearer end's distance from the line.
    """
    lmc = "LMC: not judged, as a loss of one's own has no scale."
    if classes is not None:
        error, loss = f"{100 * by.max_error_barrier:g} %", f"{reading.nats(by.loss_limit(classes))} nats"
        sure = f"{100 * by.confidence:g} %"
        lmc = f"LMC: barriers below {error} and {loss}, on test and train, for sure ({sure})."
    if not llfc:
        return lmc
    return (
        f"{lmc}\n"
        f"LLFC: at α = ½ every layer at most {by.max_llfc:g} of the nearer end's distance from the line."
    )


def _print(console: Console, title: str, table: Table) -> None:
    console.print(Text(title, "bold"), table, "", sep="\n")


def _table(*columns: str) -> Table:
    table = Table("", box=None, pad_edge=False, header_style="none")
    table.columns[0].no_wrap = True
    for column in columns:
        table.add_column(column, justify="right", vertical="bottom")
    return table


def _endpoints(results: Results) -> Table:
    table = _table("test loss", "test error", "train loss", "train error")
    for name, entry in results.get("endpoints", {}).items():
        cells = [
            show(entry[split][quantity])
            for split in ("test", "train")
            for quantity, show in (("loss", reading.nats), ("error", reading.percent))
        ]
        table.add_row(reading.network_label(name), *cells)
    return table


def _samples(path: str, found: Results) -> Table:
    table = Table("", "", box=None, pad_edge=False, show_header=False)
    for alpha, text in zip(found["alphas"], found["texts"], strict=True):
        table.add_row(reading.point_label(path, alpha), Text(reading.written(text, newline="↵")))
    return table


def _ladder(rungs: Sequence[Mapping[str, Any]]) -> Table:
    with_loss = any("loss" in rung for rung in rungs)
    table = _table("‖A − B‖, relative", *["loss at α = ½"] * with_loss)
    for rung in rungs:
        loss = [reading.nats(rung.get("loss"))] * with_loss
        table.add_row(rung["step"], reading.coefficient(rung["relative"]), *loss)
    return table


def _constraints(rungs: Sequence[Mapping[str, Any]]) -> Table:
    """The dearest in red: where alignment fails."""
    table, dearest = _table("barrier at α = ½", "cost"), reading.dearest(rungs)
    for rung in rungs:
        cost = Text(reading.nats(rung["cost"]), "red" if rung is dearest else "")
        table.add_row(
            f"{rung['added']}{' (dearest)' * (rung is dearest)}", reading.nats(rung["barrier"]), cost
        )
    return table


def _barriers(results: Results, paths: Sequence[str]) -> Table:
    table = _table("test loss", "test error", "train loss", "train error", "LMC", "LLFC")
    for path in paths:
        entry, judged = results.get("lmc", {}).get(path, {}), verdict(results, path)
        cells = [
            show(entry.get(split, {}).get(f"{quantity}_barrier"))
            for split in ("test", "train")
            for quantity, show in (("loss", reading.nats), ("error", reading.percent))
        ]
        table.add_row(reading.path_label(path), *cells, _mark(judged.connected), _mark(judged.linear))
    return table


def _perplexities(results: Results) -> Table | None:
    """Of the ends and between them, where labels are sequences."""
    table = _table(*(f"{split} {where}" for split in ("test", "train") for where in ("A", "½", "B")))
    for path, entry in results.get("lmc", {}).items():
        places = (0, reading.nearest_half(entry["alphas"]), -1)
        along = [entry.get(split, {}).get("perplexity") for split in ("test", "train")]
        if any(along):
            cells = [reading.distance(own[at]) if own else "–" for own in along for at in places]
            table.add_row(reading.path_label(path), *cells)
    return table if table.row_count else None


def _mark(answer: Answer | None) -> Text:
    return Text("–") if answer is None else Text(*MARKS[answer])


def _layers_title(entry: Results, rows: int) -> str:
    alpha = reading.alpha_label(entry["alphas"][reading.nearest_half(entry["alphas"])])
    title = f"LLFC per layer at α = {alpha}: 1 − cos, and as a part of the nearer end's"
    layers = len(entry["layers"])
    return title if rows == layers else f"{title}: first, last and worst of {layers} layers"


def _layers(
    llfc: Results, shares: Mapping[str, NDArray[np.float64]], rows: Sequence[int], limit: float
) -> Table:
    table = _table()
    for path in shares:
        label = "" if len(shares) == 1 else reading.path_label(path).replace(", ", "\n") + "\n"
        for column in (f"{label}1 − cos", "end's", "part"):
            table.add_column(column, justify="right", vertical="bottom")
    for row in rows:
        cells: list[str | Text] = []
        for path, share in shares.items():
            layer, at = llfc[path]["layers"][row], reading.nearest_half(llfc[path]["alphas"])
            cells.append(reading.distance(layer["cosine_distance"]["mean"][at]))
            cells.append(reading.distance(layer["end"]["mean"][at]))
            cells.append(Text(reading.ratio(share[row]), "red" if share[row] > limit else ""))
        table.add_row(llfc[next(iter(shares))]["layers"][row]["layer"], *cells)
    medians = (np.nanmedian(share) if not np.isnan(share).all() else np.nan for share in shares.values())
    table.add_row("median", *(cell for median in medians for cell in ("", "", reading.ratio(median))))
    return table


def _rows_shown(shares: NDArray[np.float64]) -> list[int]:
    """All layers, or the first, the last and the worst of every path: `shares` is `(paths, layers)`."""
    worst_first = np.argsort(-np.nan_to_num(shares, nan=-1), axis=1, kind="stable")
    ranked = dict.fromkeys([0, shares.shape[1] - 1, *worst_first.T.flatten().tolist()])
    return sorted(list(ranked)[:MAX_ROWS])
