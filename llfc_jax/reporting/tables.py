"""The numbers as files for other tools (CSV) and as a short table for the terminal."""

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
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
from llfc_jax.storage.files import write_text

QUARTILES = ("q25", "median", "q75")
LAYER_COLUMNS = (
    *("path", "index", "layer", "kind", "alpha", "quantity", "mean", "std", *QUARTILES, "dataset", "dead"),
)
MEASURE_COLUMNS = ("path", "measure", "quantity", "layer", "alpha", "value")
CURVE_COLUMNS = ("path", "split", "alpha", "loss", "error")

NO_QUARTILES = (None,) * len(QUARTILES)

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


def write_csv(results: Results, workdir: Path | str) -> list[Path]:
    """Writes `layers.csv` and `curves.csv` in long format, a header row first and null as an empty cell.

    `layers.csv` has a row for each path, layer, α and quantity:

    | column | meaning |
    |---|---|
    | path | key of the path, such as `a-b` or `a-b_aligned/recompute` |
    | index, layer, kind | position from 0 among the layers of this measure, name and type of the layer |
    | alpha | α; empty where A and B are compared with each other |
    | quantity | of LLFC `cosine_distance`, `coefficient`, `end` (the nearer end's distance, LLFC's unit) and
      `baseline` (1 − cos(f_A, f_B)); or a cause: `weak_additivity` (1 − cos), `dist_com`, `dist_h`,
      `dist_w`, `deviation` and `share:PART` of it |
    | mean, std | over samples |
    | q25, median, q75 | over samples, of cosine distances |
    | dataset | the same quantity over the whole samples × features matrix |
    | dead | samples left out because a feature was zero |

    `curves.csv` has a row for each path, split and α: `path`, `split` (`test` or `train`), `alpha`,
    `loss` (nats), `error` (fraction).

    `measures.csv`, where others than the standard measures were taken, has a row for each path, measure,
    quantity, and layer, α or both: `path`, `measure`, `quantity`, `layer`, `alpha`, `value`.

    Of many runs there are `runs.csv` and, where other measures than LMC and LLFC were taken, `measures.csv`
    instead: see `overview.table` and `overview.measured`.

    Args:
      results: The contents of `results.json`.
      workdir: Where to write.

    Returns:
      The files.
    """
    if "groups" in results:
        runs, measures = Path(workdir) / "runs.csv", Path(workdir) / "measures.csv"
        _write(runs, *overview.table(results))
        if not overview.measures(results):
            return [runs]
        _write(measures, *overview.measured(results))
        return [runs, measures]
    layers, curves, measures = (Path(workdir) / f"{name}.csv" for name in ("layers", "curves", "measures"))
    _write(layers, LAYER_COLUMNS, itertools.chain(_llfc_rows(results), _cause_rows(results)))
    _write(curves, CURVE_COLUMNS, _curve_rows(results))
    measured = list(_measured_rows(results))
    if not measured:
        return [layers, curves]
    _write(measures, MEASURE_COLUMNS, measured)
    return [layers, curves, measures]


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


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, buffer.getvalue())


def _llfc_rows(results: Results) -> Iterator[tuple[Any, ...]]:
    for path, entry in results.get("llfc", {}).items():
        for key, layer in _keyed(path, entry):
            baseline = layer["baseline"]
            numbers = (baseline[name] for name in ("mean", "std", *QUARTILES, "dataset", "dead"))
            yield (*key, None, "baseline", *numbers)
            for at, alpha in enumerate(entry["alphas"]):
                for quantity in ("cosine_distance", "coefficient"):
                    mean, std = layer[quantity]["mean"][at], layer[quantity]["std"][at]
                    quartiles = _quartiles(layer[quantity], at)
                    whole, dead = layer["dataset"][quantity][at], layer["dead"][at]
                    yield (*key, alpha, quantity, mean, std, *quartiles, whole, dead)
                mean, std = layer["end"]["mean"][at], layer["end"]["std"][at]
                yield (*key, alpha, "end", mean, std, *NO_QUARTILES, None, layer["baseline"]["dead"])


def _cause_rows(results: Results) -> Iterator[tuple[Any, ...]]:
    for path, entry in results.get("weak_additivity", {}).items():
        for key, layer in _keyed(path, entry):
            found, whole = layer["cosine_distance"], layer["dataset"]["cosine_distance"]
            for at, alpha in enumerate(entry["alphas"]):
                numbers = found["mean"][at], found["std"][at], *_quartiles(found, at), whole[at]
                yield (*key, alpha, "weak_additivity", *numbers, layer["dead"][at])
    for path, entry in results.get("commutativity", {}).items():
        for key, layer in _keyed(path, entry):
            for name in ("dist_com", "dist_h"):
                found = layer[name]
                numbers = found["mean"], found["std"], *NO_QUARTILES, found["dataset"]
                yield (*key, None, name, *numbers, layer["dead"])
            yield (*key, None, "dist_w", None, None, *NO_QUARTILES, layer["dist_w"], None)
    for path, entry in results.get("deviation", {}).items():
        for key, layer in _keyed(path, entry):
            shares = {f"share:{part}": share for part, share in layer["shares"].items()}
            for name, values in ({"deviation": layer["deviation"]} | shares).items():
                for alpha, value in zip(entry["alphas"], values, strict=True):
                    yield (*key, alpha, name, None, None, *NO_QUARTILES, value, None)


def _quartiles(found: Results, at: int) -> tuple[Any, ...]:
    return tuple(found[name][at] if name in found else None for name in QUARTILES)


def _keyed(path: str, entry: Results) -> Iterator[tuple[tuple[Any, ...], Results]]:
    for index, layer in enumerate(entry["layers"]):
        yield (path, index, layer["layer"], layer["kind"]), layer


def _curve_rows(results: Results) -> Iterator[tuple[Any, ...]]:
    for path, entry in results.get("lmc", {}).items():
        for split in ("test", "train"):
            if split in entry:
                errors = entry[split].get("error") or [None] * len(entry["alphas"])
                curves = zip(entry["alphas"], entry[split]["loss"], errors, strict=True)
                yield from ((path, split, *point) for point in curves)


def _measured_rows(results: Results) -> Iterator[tuple[Any, ...]]:
    """Of the measures that say of their entries what they are."""
    for measure, entries in results.items():
        for path, entry in entries.items() if isinstance(entries, Mapping) else ():
            for name in entry.get("quantities", ()) if isinstance(entry, Mapping) else ():
                for found in entry.get("layers", [entry]):
                    for alpha, value in _along(entry, found[name]):
                        yield path, measure, name, found.get("layer"), alpha, value


def _along(entry: Results, value: Any) -> Iterable[tuple[float | None, float | None]]:
    """A number by alpha, or the one that there is."""
    if isinstance(value, list | tuple):
        return zip(entry["alphas"], value, strict=True)
    return [(entry.get("alpha"), value)]


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
