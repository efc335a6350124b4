"""Figures are the same whoever draws them, and none is missing where a helper is lost."""

from collections import deque
from concurrent.futures import Future

import pytest
import synthetic_results

from llfc_jax.reporting import drawing, helpers


@pytest.fixture(scope="module")
def results():
    whole = synthetic_results.spawned_mlp()
    return {name: whole[name] for name in ("lmc", "training")}


@pytest.fixture(scope="module")
def alone(results):
    return list(drawing.draw(results))


def test_a_helper_draws_the_same(results, alone):
    drawn = {"lmc": Future(), "nothing": Future()}
    helpers._have_drawn(results, deque(["lmc"]), drawn)
    assert drawn["lmc"].result(timeout=0) == next(one for one in alone if one.name == "lmc")
    assert not drawn["nothing"].done()


@pytest.mark.parametrize("code", [helpers._HELPER, "import os; os._exit(1)"], ids=["helpers", "lost helpers"])
def test_with_helpers_all_is_drawn_in_the_same_order(results, alone, monkeypatch, code):
    monkeypatch.setattr(helpers, "_count", 2)
    monkeypatch.setattr(helpers, "_HELPER", code)
    assert [one.name for one in alone] == ["lmc", "training"]
    assert list(drawing.draw(results)) == alone


def test_what_is_wrong_with_a_figure_is_raised_here(monkeypatch):
    monkeypatch.setattr(helpers, "_count", 1)
    with pytest.raises(KeyError, match="test_loss"):
        list(drawing.draw({"training": {"a": {"epoch": [1.0]}}}))
