"""Results edited by hand: either the report is made of them, or one line says what is wrong."""

import copy
import itertools

import numpy as np
import pytest
import synthetic_results

from llfc_jax.errors import UserError
from llfc_jax.reporting import page, tables, verdict
from llfc_jax.results import check

ODD = (None, -1, 1e400, float("nan"), 10**400, True, "abc", "$x$", [], {}, [None], {"mean": None})


@pytest.mark.parametrize("case", synthetic_results.CASES)
def test_what_a_run_writes_is_sound(case):
    results = synthetic_results.CASES[case]()
    assert check(results) is results


def places(tree, where=()):
    """The path to every entry, with only the first of alike ones in a list."""
    entries = (
        tree.items() if isinstance(tree, dict) else enumerate(tree[:1]) if isinstance(tree, list) else ()
    )
    for key, value in entries:
        yield (*where, key)
        yield from places(value, (*where, key))


def edited(results, where, value):
    changed = copy.deepcopy(results)
    entry = changed
    for key in where[:-1]:
        entry = entry[key]
    if value is ...:
        del entry[where[-1]]
    else:
        entry[where[-1]] = value
    return changed


def test_any_entry_made_odd_or_left_out_is_one_line_or_a_report():
    """Of a random sample of all edits of one entry."""
    results = synthetic_results.aligned_mlp()
    every = list(itertools.product(places(results), (..., *ODD)))
    refusals = []
    for index in np.random.default_rng(0).choice(len(every), 300, replace=False):
        changed = edited(results, *every[index])
        try:
            check(changed)
        except UserError as error:
            refusals.append(str(error))
            continue
        for path in changed.get("lmc", {}):
            str(verdict(changed, path))
        tables.terminal(changed)
        page.render(changed, ())
    assert len(refusals) > 100
    assert not any("\n" in line for line in refusals)


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("schema_version",), 1, "no schema_version 2, the only one that this release reads"),
        (("data",), ..., "data: expected this entry; found none"),
        (("data", "num_classes"), "ten", "data.num_classes: expected an integer; found 'ten'"),
        (("lmc", "a-b", "test", "loss"), [0.1], "lmc.a-b.test.loss: expected 25 entries, .*; found 1"),
        (("lmc", "a-b", "alphas", 0), None, r"lmc.a-b.alphas\[0\]: expected a number; found None"),
        (("lmc", "a-b", "alphas", 0), 0.9, r"lmc.a-b.alphas: expected rising numbers in \[0, 1\]; .*"),
        (("llfc", "a-b", "layers"), [], r"llfc.a-b.layers: expected one entry at least; found \[\]"),
        (("llfc", "a-b", "layers", 2, "end"), ..., r"llfc.a-b.layers\[2\].end: expected one; found none"),
        (("llfc", "a_b"), {}, r"llfc.a_b: expected a path such as .*; found 'a_b'"),
    ],
)
def test_the_entry_at_fault_is_named(where, value, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        check(edited(synthetic_results.spawned_mlp(), where, value))


def test_paths_of_other_layers_are_refused():
    results = synthetic_results.aligned_mlp()
    del results["llfc"]["a-b_aligned"]["layers"][-1]
    with pytest.raises(UserError, match=r"llfc.a-b_aligned.layers: expected those of the first path"):
        check(results)


@pytest.mark.parametrize("results", [None, [], 3, "x", {}])
def test_what_is_no_results_at_all_is_refused(results):
    with pytest.raises(UserError, match="no schema_version"):
        check(results)


def test_the_alphas_of_a_configuration_may_be_in_any_order():
    results = synthetic_results.aligned_mlp()
    results["config"]["llfc"] = {"alphas": [0.5, 0.25, 0.5]}
    assert check(results) is results
