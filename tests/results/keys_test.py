import itertools

import pytest

from llfc_jax.errors import UserError
from llfc_jax.results import NetworkKey, PathKey

NETWORKS = [
    NetworkKey(name, epoch, aligned, run)
    for name, epoch, aligned, run in itertools.product(
        ("a", "trunk"), (None, 0.0, 0.00001, 2.0), (False, True), ("", "seed0/run-1|x")
    )
]


@pytest.mark.parametrize("key", NETWORKS, ids=str)
def test_a_network_is_read_back_from_its_key(key):
    assert NetworkKey.parse(str(key)) == key


@pytest.mark.parametrize("correction", ["", "recompute", "repair"])
@pytest.mark.parametrize("run", ["", "runs/my-run@2_aligned", "a|b"])
def test_a_path_is_read_back_from_its_key(correction, run):
    key = PathKey(NetworkKey("a", 0.5), NetworkKey("b", 0.5, aligned=True), correction).in_run(run)
    assert PathKey.parse(str(key)) == key
    assert PathKey.parse(str(key)).plain.correction == ""


@pytest.mark.parametrize("key", ["", "a", "a-b-c", "a-B", "A-b", "a-b_alined", "a@x-b", "-"])
def test_what_is_no_path_is_refused(key):
    with pytest.raises(UserError, match=r"expected a (path|network) such as"):
        PathKey.parse(key)
