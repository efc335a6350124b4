"""Many runs as one: those that differ in the seed alone are a group, with means and deviations."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llfc_jax.measures import MEASURES
from llfc_jax.reporting import reading
from llfc_jax.reporting.contrast import check_alike
from llfc_jax.reporting.judgement import Answer, Verdict, criteria, llfc_shares, verdict
from llfc_jax.reporting.quantities import described, of_layer, of_path
from llfc_jax.reporting.reading import Results
from llfc_jax.results import SCHEMA_VERSION

Runs = Mapping[str, Results]
"""Name -> the contents of its `results.json`."""

SEED, NAME = "seed", "name"

NOT_MEASURED = "not measured"


def overview(runs: Runs, fields: Sequence[str] | None = None) -> dict[str, Any]:
    """What many runs have found: an `Overview` without its command.

    Args:
      runs: In any order.
      fields: In which the groups differ; by default those that differ.

    Raises:
      UserError: If runs of a group have different architectures or data.
    """
    groups = [
        _group(which, members)
        for which, members in grouped(runs, _differing(runs) if fields is None else fields).values()
    ]
    names = dict.fromkeys(results["config"][NAME] for results in runs.values())
    return {"schema_version": SCHEMA_VERSION, "config": {NAME: " · ".join(names)}, "groups": groups}


def are_replicates(runs: Runs) -> bool:
    """Whether some of the runs differ in the seed alone, and none in nothing."""
    groups = [members for _, members in grouped(runs, _differing(runs)).values()]
    seeds = [[results["config"].get(SEED) for results in members.values()] for members in groups]
    return any(len(each) > 1 for each in seeds) and all(len({*each}) == len(each) for each in seeds)


def grouped(runs: Runs, fields: Sequence[str]) -> Mapping[str, tuple[dict[str, Any], Runs]]:
    """The values of some fields as JSON -> these, and the runs that have them; all by seed."""
    found: dict[str, tuple[dict[str, Any], dict[str, Results]]] = {}
    for name, results in sorted(runs.items(), key=lambda run: run[1]["config"].get(SEED, 0)):
        flat = dict(reading.flat(results["config"]))
        which = {field: flat.get(field) for field in fields}
        found.setdefault(json.dumps(which), (which, {}))[1][name] = results
    return found


def label(group: Mapping[str, Any]) -> str:
    """What tells a group from the others; empty of one alone.

    >>> label({"fields": {"model.width": 2, "model.hidden": [16, 8], "name": "mlp"}}), label({"fields": {}})
    ('model.width=2, model.hidden=(16, 8), mlp', '')
    """
    return ", ".join(
        value_label(value) if field == NAME else f"{field}={value_label(value)}"
        for field, value in group["fields"].items()
    )


def short_label(group: Mapping[str, Any]) -> str:
    """The same where the fields are named above.

    >>> short_label({"fields": {"model.width": 2, "model.hidden": [16, 8]}})
    '2, (16, 8)'
    """
    return ", ".join(map(value_label, group["fields"].values()))


def field_names(results: Results) -> str:
    """What `short_label` leaves out."""
    return ", ".join(next(iter(results["groups"]))["fields"])


def told(results: Results, kind: str) -> Iterator[tuple[Results, str, Results]]:
    """Group, name and what was found of every path or network of all groups.

    What all have alike, such as the networks of runs that differ in how these are aligned, comes once, with
    a group without fields.

    Args:
        results: an `Overview`.
        kind: `paths` or `networks`.

    Example:
        >>> both = [{"fields": {"x": x}, "paths": {"a-b": 0, "a-b_aligned": x}} for x in (1, 2)]
        >>> [(label(group), name) for group, name, _ in told({"groups": both}, "paths")]
        [('', 'a-b'), ('x=1', 'a-b_aligned'), ('x=2', 'a-b_aligned')]
    """
    first, *others = results["groups"]
    shared = {
        name
        for name, found in first[kind].items()
        if others and all(name in group[kind] and group[kind][name] == found for group in others)
    }
    yield from ((first | {"fields": {}}, name, first[kind][name]) for name in first[kind] if name in shared)
    for group in results["groups"]:
        yield from ((group, name, found) for name, found in group[kind].items() if name not in shared)


def lines(results: Results) -> dict[str, Results]:
    """What a legend calls a path -> what was found of it in its group; what groups have alike comes once."""
    if not results.get("groups"):
        return {}
    return {
        named(short_label(group), reading.path_label(name)): path
        for group, name, path in told(results, "paths")
    }


def named(label: str, name: str) -> str:
    """A path or network of a group.

    >>> named("2", "A–B"), named("", "A–B")
    ('2: A–B', 'A–B')
    """
    return f"{label}: {name}" if label else name


def value_label(value: Any) -> str:
    """A field's value, as it is written on the command line.

    >>> value_label(0.5), value_label(2.0), value_label([16, 8]), value_label(None), value_label("layer")
    ('0.5', '2', '(16, 8)', 'None', 'layer')
    """
    if isinstance(value, list | tuple):
        return f"({', '.join(map(value_label, value))})"
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def count(answers: Sequence[str]) -> str:
    """In how many runs it holds.

    >>> count(["holds", "does not hold", "holds"]), count([NOT_MEASURED])
    ('2 of 3', '–')
    """
    if {*answers} == {NOT_MEASURED}:
        return "–"
    return f"{list(answers).count(Answer.HOLDS.value)} of {len(answers)}"


def _differing(runs: Runs) -> list[str]:
    """The fields, but for the seed, in which configurations differ; only their name where that tells them."""
    configs = [dict(reading.flat(results["config"])) for results in runs.values()]
    found = [
        field
        for field in dict.fromkeys(field for config in configs for field in config)
        if field != SEED and any(config.get(field) != configs[0].get(field) for config in configs)
    ]
    by_name = NAME in found and len(grouped(runs, [NAME])) == len(grouped(runs, found))
    return [NAME] if by_name else found


def _group(fields: dict[str, Any], runs: Runs) -> dict[str, Any]:
    check_alike(runs)
    first = next(iter(runs.values()))
    paths = dict.fromkeys(path for measure in MEASURES for path in first.get(measure, {}))
    by, classes = criteria(first), first["data"].get("num_classes")
    return {
        "fields": fields,
        "runs": {name: results["config"][SEED] for name, results in runs.items()},
        "limits": {
            "loss": None if classes is None else by.loss_limit(classes),
            "error": by.max_error_barrier,
            "llfc": by.max_llfc,
        },
        "networks": {
            name: {
                f"{split}_{quantity}": over_runs(
                    [each["endpoints"][name][split][quantity] for each in runs.values()]
                )
                for split in ("test", "train")
                for quantity in ("loss", "error")
            }
            for name in first.get("endpoints", {})
        },
        "paths": {path: _path(path, [*runs.values()]) for path in paths},
    }


def _path(path: str, runs: Sequence[Results]) -> dict[str, Any]:
    is_judged = any(path in runs[0].get(measure, {}) for measure in ("lmc", "llfc"))
    judged = [verdict(results, path) if is_judged else Verdict(path) for results in runs]
    quantities: dict[str, list[float]] = {}
    for one in judged:
        found = {f"{each.split}_{each.quantity}_barrier": each.value for each in one.barriers}
        found |= {"llfc_median": one.median, "llfc_worst": one.worst} if one.linear else {}
        for quantity, value in found.items():
            quantities.setdefault(quantity, []).append(value)
    return {
        "lmc": [one.connected.value if one.connected else NOT_MEASURED for one in judged],
        "llfc": [one.linear.value if one.linear else NOT_MEASURED for one in judged],
        "quantities": {quantity: over_runs(values) for quantity, values in quantities.items()},
        **_curves([results["lmc"][path] for results in runs if path in results.get("lmc", {})]),
        **_layers(path, [results for results in runs if path in results.get("llfc", {})]),
        "measures": _measures(path, runs),
    }


def _curves(entries: Sequence[Results]) -> dict[str, Any]:
    if not entries:
        return {}
    curves = {
        f"{split}_{quantity}": over_runs_along([entry[split][quantity] for entry in entries])
        for split in ("test", "train")
        if split in entries[0]
        for quantity in reading.quantities({"": entries[0]})
    }
    return {"alphas": entries[0]["alphas"], "curves": curves}


def _layers(path: str, runs: Sequence[Results]) -> dict[str, Any]:
    if not runs:
        return {}
    entry = runs[0]["llfc"][path]
    parts = np.stack([llfc_shares(each["llfc"][path], each["data"]["test_examples"]) for each in runs])
    layers = [
        {"layer": layer["layer"], "kind": layer["kind"], "part": over_runs(own)}
        for layer, own in zip(entry["layers"], parts.T, strict=True)
    ]
    return {"llfc_alpha": entry["alphas"][reading.nearest_half(entry["alphas"])], "layers": layers}


def _measures(path: str, runs: Sequence[Results]) -> dict[str, Any]:
    """The numbers of all measures that figures and tables of LMC and LLFC leave out."""
    found = {
        measure: [results[measure][path] for results in runs]
        for measure in MEASURES
        if all(path in results.get(measure, {}) for results in runs)
    }
    return {
        measure: _numbers(names, entries)
        for measure, entries in found.items()
        if (names := described(measure, entries[0]))
    }


def _numbers(names: Mapping[str, str], entries: Sequence[Results]) -> dict[str, Any]:
    """A measure's entries in several runs as one, with each of its numbers over these."""
    first = entries[0]
    if "layers" in first:
        layers = [
            {
                "layer": layer["layer"],
                "kind": layer["kind"],
                "values": {
                    name: over_runs([of_layer(entry, entry["layers"][at], name) for entry in entries])
                    for name in names
                },
            }
            for at, layer in enumerate(first["layers"])
        ]
        alphas = first.get("alphas")
        alpha = alphas[reading.nearest_half(alphas)] if alphas else first.get("alpha")
        return {"quantities": names, "layers": layers, "layers_at": alpha}
    values = {name: [of_path(entry, name) for entry in entries] for name in names}
    along = {name: over_runs_along(own) for name, own in values.items() if isinstance(own[0], list)}
    of_whole = {name: over_runs(own) for name, own in values.items() if name not in along}
    return {"quantities": names, "alphas": first["alphas"], "along": along, "of_path": of_whole}


def over_runs(values: Sequence[float | None] | NDArray[np.float64]) -> dict[str, Any]:
    """Mean and standard deviation of a number in several runs; undefined where one of them is.

    >>> over_runs([1.0, 3.0])
    {'mean': 2.0, 'std': 1.4142135623730951, 'each': [1.0, 3.0]}
    """
    found = over_runs_along([[value] for value in values])
    return {"mean": found["mean"][0], "std": found["std"][0], "each": [value for (value,) in found["each"]]}


def over_runs_along(values: Sequence[Sequence[float | None]]) -> dict[str, Any]:
    """The same of several numbers: (runs, numbers)."""
    each = np.array([reading.numbers(own) for own in values])
    with np.errstate(invalid="ignore"):  # of what is infinite in one of them
        deviation = each.std(0, ddof=1) if len(each) > 1 else np.full(each.shape[1], np.nan)
    return {"mean": each.mean(0).tolist(), "std": deviation.tolist(), "each": each.tolist()}
