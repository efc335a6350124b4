import jax.numpy as jnp
import numpy as np
import pytest

from llfc_jax.measures import stacking


@pytest.mark.parametrize("most", [1, 100, 2**20], ids=["one by one", "in parts", "all at once"])
def test_layers_keep_their_order_and_numbers_however_many_are_stacked(most, monkeypatch):
    monkeypatch.setattr(stacking, "MOST_BYTES", most)
    random = np.random.default_rng(0)
    layers = [tuple(random.normal(size=(2, 3, width)).astype(np.float32)) for width in (4, 5, 4, 4, 5, 4, 2)]
    found = stacking.each_of(lambda x, y: (x * y).sum(-1), [tuple(map(jnp.asarray, one)) for one in layers])
    np.testing.assert_allclose(found, [(x * y).sum(-1) for x, y in layers], rtol=1e-5)
