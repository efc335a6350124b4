"""The report: one self-contained HTML page made from the results."""

import base64
import functools
from collections.abc import Iterable
from importlib import resources
from typing import Any

import jinja2
import numpy as np

from llfc_jax.reporting import figures, group_panels, groups, overview, reading
from llfc_jax.reporting.accounts import corrections, midpoints, tightest_bound
from llfc_jax.reporting.drawing import Drawing
from llfc_jax.reporting.judgement import Answer, barriers, criteria, llfc_shares, verdict
from llfc_jax.reporting.reading import Results
from llfc_jax.results import PathKey

TEMPLATE, OF_MANY_RUNS = "page.html.jinja", "overview.html.jinja"

FILTERS = {
    "nats": reading.nats,
    "percent": reading.percent,
    "ratio": reading.ratio,
    "count": reading.count,
    "number": reading.number,
    "tone": lambda answer: TONES[answer],
    "distance": reading.distance,
    "coefficient": reading.coefficient,
    "alpha": reading.alpha_label,
    "network": reading.network_label,
    "path": reading.path_label,
    "point": reading.point_label,
    "written": reading.written,
    "value": groups.value_label,
}

TONES: dict[Answer | None, str] = {
    Answer.HOLDS: "yes",
    Answer.IN_PART: "part",
    Answer.FAILS: "no",
    Answer.OPEN: "part",
    Answer.TRIVIAL: "unknown",
    Answer.UNDEFINED: "no",
    Answer.UNJUDGED: "unknown",
    None: "unknown",
}
"""Answer -> its class in the page's style."""

OPEN_LAYERS = 24
"""A table with more layers than this is folded until it is asked for."""


def render(results: Results, drawings: Iterable[Drawing]) -> str:
    """The report's HTML: what was run, the verdict, the figures, the tables and how to run it again.

    Nothing in the page is loaded from elsewhere: figures are embedded as SVG.

    Args:
      results: The contents of `results.json`.
      drawings: From `reporting.drawing.draw`.
    """
    embedded = [_embedded(drawing, results) for drawing in drawings]
    if "groups" in results:
        return _of_many_runs(results, embedded)
    lmc = results.get("lmc", {})
    paths = list(dict.fromkeys([*results.get("lmc", {}), *results.get("llfc", {})]))
    return _template(TEMPLATE).render(
        results=results,
        verdicts=[verdict(results, path) for path in paths],
        by=criteria(results),
        tones=TONES,
        figures=embedded,
        layers={
            path: _layers(entry, results["data"]["test_examples"])
            for path, entry in results.get("llfc", {}).items()
        },
        bounds={
            path: tightest_bound(found["theorem1"])
            for path, found in results.get("theory", {}).items()
            if "theorem1" in found
        },
        corrections=list(corrections(results)),
        midpoints=midpoints(results),
        config=list(reading.flat(results.get("config", {}))),
        normalised=any(PathKey.parse(path).correction == "recompute" for path in paths),
        open_layers=OPEN_LAYERS,
        has_errors=any("error" in {one.quantity for one in barriers(results, path)} for path in lmc),
        has_perplexities=any("perplexity" in entry["test"] for entry in lmc.values()),
        middle=reading.nearest_half,
        dearest_of=reading.dearest,
        unconstrained=reading.UNCONSTRAINED,
    )


def _of_many_runs(results: Results, figures: list[dict[str, Any]]) -> str:
    return _template(OF_MANY_RUNS).render(
        results=results,
        count=sum(len(group["runs"]) for group in results["groups"]),
        fields=groups.field_names(results),
        verdicts=list(overview.verdicts(results)),
        most_verdicts=overview.MOST_VERDICTS,
        open_rows=OPEN_LAYERS,
        sentence=overview.sentence,
        tone=_tone,
        figures=figures,
        paths=overview.paths(results),
        path_heads=[*overview.QUANTITIES.values(), *overview.VERDICTS],
        curves=len(group_panels.curves(results)),
        most_curves=group_panels.MOST_LINES,
        measures=overview.measures(results),
        extremes=overview.EXTREMES,
        each_run=overview.each_run(results),
        networks=overview.networks(results),
        network_heads=[*overview.ENDS.values()],
        config=list(reading.flat(results["config"])),
    )


def _tone(path: Results) -> str:
    """Of counted verdicts."""
    answers = {*path["lmc"], *path["llfc"]} - {groups.NOT_MEASURED}
    if len(answers) > 1:
        return TONES[Answer.IN_PART]
    return TONES[next(map(Answer, answers), None)]


@functools.cache  # compiling one takes as long as all that is written with it
def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(_source),
    )
    environment.filters |= FILTERS
    return environment.get_template(name)


def _source(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _embedded(drawing: Drawing, results: Results) -> dict[str, Any]:
    """A figure as the template wants it; one wider than a column takes the page's whole width."""
    spec = figures.FIGURES[drawing.name]
    svg = base64.b64encode(drawing.files["svg"]).decode()
    about = {"name": drawing.name, "title": spec.title, "caption": spec.caption(results)}
    return about | {"svg": svg, "wide": drawing.wide}


def _layers(entry: Results, examples: int) -> dict[str, Any]:
    """One path's table: each layer at the α nearest ½, with its part of the nearer end's distance."""
    at = reading.nearest_half(entry["alphas"])
    shares = llfc_shares(entry, examples)
    rows = [
        {
            "layer": layer["layer"],
            "kind": layer["kind"],
            "distance": layer["cosine_distance"]["mean"][at],
            "low": layer["cosine_distance"]["q25"][at],
            "high": layer["cosine_distance"]["q75"][at],
            "end": layer["end"]["mean"][at],
            "baseline": layer["baseline"]["mean"],
            "share": float(share),
            "coefficient": layer["coefficient"]["mean"][at],
            "coefficient_deviation": layer["coefficient"]["std"][at],
            "dead": layer["dead"][at],
        }
        for layer, share in zip(entry["layers"], shares, strict=True)
    ]
    median = float(np.nanmedian(shares)) if np.isfinite(shares).any() else float("nan")
    any_dead = any(row["dead"] for row in rows)
    return {"alpha": entry["alphas"][at], "rows": rows, "any_dead": any_dead, "median": median}
