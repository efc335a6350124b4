"""The networks here stand for users' networks, which may rely on NumPy's broadcasting of ranks."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def _any_broadcasting():
    with jax.numpy_rank_promotion("allow"):
        yield
