"""The numbers as files for other tools: tidy tables, CSV in long format."""

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llfc_jax.reporting import groups
from llfc_jax.reporting.quantities import places
from llfc_jax.reporting.reading import Results
from llfc_jax.storage.files import write_text

QUARTILES = ("q25", "median", "q75")
LAYER_COLUMNS = (
    *("path", "index", "layer", "kind", "alpha", "quantity", "mean", "std", *QUARTILES, "dataset", "dead"),
)
MEASURE_COLUMNS = ("path", "measure", "quantity", "layer", "alpha", "value")
CURVE_COLUMNS = ("path", "split", "alpha", "loss", "error")

NO_QUARTILES = (None,) * len(QUARTILES)


def write_csv(results: Results, workdir: Path | str) -> list[Path]:
    """Writes `layers.csv`, `curves.csv` and the like: a header row first, null as an empty cell.

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

    Of many runs there are others. `runs.csv` has a row for each run, path or network, and quantity:

    | column | meaning |
    |---|---|
    | run, seed | name of the run, its seed |
    | … | between them, a column for each field in which the groups differ |
    | of | key of a path, such as `a-b_aligned`, or of a network, `a` |
    | quantity | of a path `test_loss_barrier`, …, `llfc_median` and `llfc_worst` (of the layers' distances
      from the line, in units of the nearer end's); of a network `test_loss`, … |
    | value | in nats, fractions, units; empty where undefined |

    Their `measures.csv`, where other measures than LMC and LLFC were taken, has a row for each run, path,
    quantity, and layer or α: beside the same columns

    | column | meaning |
    |---|---|
    | measure, quantity | as in the run's `results.json`, such as `similarity`, `cka` |
    | layer | empty of what is told of the whole network |
    | alpha | of layers' numbers, that nearest to ½; empty where A and B are compared with each other |

    Args:
      results: The contents of `results.json`.
      workdir: Where to write.

    Returns:
      The files.
    """
    tables = _of_runs(results) if "groups" in results else _of_run(results)
    return [_write(Path(workdir) / f"{name}.csv", *table) for name, table in tables.items()]


_Table = tuple[Sequence[str], Iterable[Sequence[Any]]]
"""A header, and rows."""


def _of_run(results: Results) -> dict[str, _Table]:
    measured = list(_measured_rows(results))
    return {
        "layers": (LAYER_COLUMNS, itertools.chain(_llfc_rows(results), _cause_rows(results))),
        "curves": (CURVE_COLUMNS, _curve_rows(results)),
    } | ({"measures": (MEASURE_COLUMNS, measured)} if measured else {})


def _of_runs(results: Results) -> dict[str, _Table]:
    key = ["run", *results["groups"][0]["fields"], "seed", "of"]
    measured = list(_measured_rows_of_runs(results))
    return {"runs": ([*key, "quantity", "value"], _rows_of_runs(results))} | (
        {"measures": ([*key, "measure", "quantity", "layer", "alpha", "value"], measured)} if measured else {}
    )


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, buffer.getvalue())
    return path


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


def _rows_of_runs(results: Results) -> Iterator[tuple[Any, ...]]:
    for key, at, group in _each_run(results):
        of_all = {name: path["quantities"] for name, path in group["paths"].items()} | group["networks"]
        for name, quantities in of_all.items():
            for quantity, found in quantities.items():
                yield (*key, name, quantity, found["each"][at])


def _measured_rows_of_runs(results: Results) -> Iterator[tuple[Any, ...]]:
    for key, at, group in _each_run(results):
        for path, found in group["paths"].items():
            for measure, entry in found.get("measures", {}).items():
                for name in entry["quantities"]:
                    for layer, alpha, over_runs in places(entry, name):
                        yield (*key, path, measure, name, layer, alpha, over_runs["each"][at])


def _each_run(results: Results) -> Iterator[tuple[tuple[Any, ...], int, Results]]:
    """The first cells of a run's rows, its place in its group, and the group."""
    for group in results["groups"]:
        values = [groups.value_label(value) for value in group["fields"].values()]
        for at, (run, seed) in enumerate(group["runs"].items()):
            yield (run, *values, seed), at, group
