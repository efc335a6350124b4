import html
import re
import subprocess
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
import synthetic_results
from PIL import Image

from llfc_jax.measures import MEASURES
from llfc_jax.reporting import drawing, figures, page, style
from llfc_jax.reporting.accounts import corrections, tightest_bound

VOID = {"meta", "img", "br", "link"}


class Checker(HTMLParser):
    """Follows the tags of a page; `open` ends empty if they nest, `links` holds what they refer to."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [attrs[name] for name in ("src", "href") if name in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def without_figures():
    results = synthetic_results.spawned_mlp()
    for key in ("lmc", "llfc", "training"):
        del results[key]
    return results


@pytest.fixture(scope="module", params=["aligned", "deep", "wounded"])
def drawn(request):
    """Results and their figures."""
    results = synthetic_results.CASES[request.param]()
    return results, list(drawing.draw(results))


def test_every_case_gives_wellformed_svg_and_png(drawn, tmp_path):
    results, drawings = drawn
    written = drawing.write(drawings, tmp_path / "figures")
    absent = {
        "runs",
        "fields",
        "causes_of_runs",
        "spawn_sweep",
        "parts" if len(results["lmc"]) > 1 else "summary",
    }
    absent |= {"quantities"} | ({"training", "plane", *MEASURES} - results.keys())
    aligned = results.get("alignment", {}).values()
    absent |= set() if any("constraints" in found for found in aligned) else {"constraints"}
    names = [name for name in figures.FIGURES if name not in absent]
    assert [path.name for path in written] == [
        f"{name}.{suffix}" for name in names for suffix in ("png", "svg")
    ]
    for path in written:
        if path.suffix == ".svg":
            assert ElementTree.parse(path).getroot().tag.endswith("svg")
        else:
            with Image.open(path) as image:
                assert image.width in {round(300 * style.COLUMN), round(300 * style.PAGE)}


def test_the_page_is_wellformed_self_contained_and_without_nan(drawn):
    text = page.render(*drawn)
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert len(checker.ids) == len(set(checker.ids))
    assert checker.links
    assert all(link.startswith("data:") for link in checker.links)
    assert "url(" not in text
    assert "@import" not in text
    words = re.sub(r"base64,[\w+/=]+", "", text)
    assert not re.search(r"\b(nan|Undefined)\b", words)


def test_the_page_states_verdict_command_and_every_override_field():
    results = synthetic_results.aligned_mlp()
    text = html.unescape(page.render(results, ()))
    assert results["command"] in text
    assert "LMC does not hold: barrier 1.310 nats and 43.0 % on test, 1.179 nats and 40.8 % on train" in text
    assert "LMC holds: barrier 0.0140 nats and 0.40 % on test" in text
    assert "below 0.0461 nats (2 % of a guess's loss) and 2 %, each with its whole 95 % interval" in " ".join(
        text.split()
    )
    assert "<code>train.spawn_epochs</code>" in text
    assert results["alignment"]["a-b_aligned"]["description"] in text


def test_a_bound_that_says_nothing_is_called_vacuous_beside_the_deviation_of_the_same_alpha():
    results = synthetic_results.aligned_mlp()
    output = results["theory"]["a-b"]["theorem1"]["layers"][-1]
    output["bound"], output["deviation"] = [0.9, 0.5, 2e14], [0.1, 0.4, 0.2]
    assert tightest_bound(results["theory"]["a-b"]["theorem1"])[:4] == (0.5, 0.4, 0.5, False)
    assert "<td>0.4</td><td>0.5</td>" in page.render(results, ())
    output["bound"] = [4e13, 3e14, 2e14]
    found = tightest_bound(results["theory"]["a-b"]["theorem1"])
    assert (found.alpha, found.bound, found.vacuous) == (0.25, 4e13, True)
    assert "<td>4e+13, vacuous</td>" in page.render(results, ())


def test_llfc_and_lewc_stand_side_by_side_at_the_midpoint():
    results = synthetic_results.spawned_mlp()
    layer = results["llfc"]["a-b"]["layers"][-1]
    lewc = {"layer": layer["layer"], "kind": layer["kind"], "depth": 5, "dist": [0.0] * 3}
    lewc |= {"distance": [0.1, 0.123, 0.1], "coefficient": [9.0, 16.5, 9.0]}
    quantities = {"distance": "1 − cos, LEWC", "coefficient": "coefficient, LEWC"}
    results["lewc"] = {"a-b": {"alphas": [0.25, 0.5, 0.75], "layers": [lewc], "quantities": quantities}}
    text = page.render(results, ())
    assert "LLFC and LEWC of A–B" in text
    at = results["llfc"]["a-b"]["alphas"].index(0.5)
    coefficient = f"{layer['coefficient']['mean'][at]:.3g}"
    assert f"<td>{coefficient}</td><td>0.12</td><td>16.5</td></tr>" in text
    assert "LLFC and LEWC" not in page.render(synthetic_results.spawned_mlp(), ())


def test_a_correction_that_hurts_the_ends_is_said_to():
    results = synthetic_results.deep_resnet()
    (change,) = corrections(results)
    assert change.says.startswith("it helps between the ends")
    test = results["lmc"]["a-b/recompute"]["test"]
    test["error"] = [error + 0.03 for error in test["error"]]
    (change,) = corrections(results)
    assert "it worsens an end by 3.00 %" in change.says
    assert change.ends[1] - change.ends[0] == pytest.approx(0.03)


def test_what_comes_from_the_user_is_escaped():
    results = without_figures()
    results["config"]["name"] = "<script>alert(1)</script>"
    text = page.render(results, ())
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


@pytest.mark.parametrize(("blocks", "unfolded"), [(0, 1), (3, 0)])
def test_long_layer_tables_are_folded_and_short_ones_open(blocks, unfolded):
    layers = synthetic_results.resnet_layers(blocks)
    results = without_figures() | {"llfc": {"a-b": synthetic_results.llfc_entry(layers, 0.1)}}
    assert page.render(results, ()).count("<details open>") == unfolded


def test_optional_keys_may_be_missing():
    results = without_figures()
    for key in ("endpoints", "seconds", "peak_memory_bytes", "environment"):
        del results[key]
    assert results["command"] in page.render(results, ())


def test_importing_the_room_does_not_import_matplotlib():
    code = "import sys, llfc_jax.reporting; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
