import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from llfc_jax.errors import UserError
from llfc_jax.program.features import NamedFeatures, WithoutFeatures, named_features
from llfc_jax.program.reading import read_features

X = jnp.ones((3, 4))


def test_nested_features_are_named_by_their_paths():
    tree = {"stem": X, "blocks": [{"relu": X}, {"relu": X}], "pair": (X, X), "once": [X]}
    assert set(named_features(tree)) == {
        "stem", "blocks/0/relu", "blocks/1/relu", "pair/0", "pair/1", "once"
    }  # fmt: skip


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(8)(x))
        self.sow("intermediates", "relu", x)
        shared = nn.Dense(8, name="shared")
        return nn.Dense(2, name="an_output")(shared(shared(x)))


def test_linens_intermediates_are_named_by_their_modules():
    model = Linen()
    variables = model.init(jax.random.key(0), X)

    def apply(variables, x):
        logits, state = model.apply(variables, x, capture_intermediates=True, mutable=["intermediates"])
        return logits, state["intermediates"]

    program = read_features(NamedFeatures(apply), variables, X)
    in_forward_order = ["Dense_0", "relu", "shared/0", "shared/1", "an_output"]
    assert [node.name for node in program.nodes if node.named] == in_forward_order
    assert program["relu"].shape == (3, 8)


class NNX(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(4, 8, rngs=rngs)
        self.a_last = nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.hidden(x))
        self.sow(nnx.Intermediate, "relu", x)
        return self.a_last(x)


def test_what_nnx_captures_is_named_by_its_modules():
    graph, state = nnx.split(NNX(nnx.Rngs(0)))

    def apply(state, x):
        model = nnx.merge(graph, state)
        return nnx.capture(model, nnx.Intermediate, method_outputs=nnx.Intermediate)(x)

    program = read_features(NamedFeatures(apply), state, X)
    assert [node.name for node in program.nodes if node.named] == ["hidden", "relu", "a_last"]


def chain(weights, x):
    """Layers whose names are in no order."""
    z = jnp.tanh(x @ weights)
    m = z @ weights
    return m, {"a": m, "input": x, "z": z}


@pytest.mark.parametrize("apply", [chain, jax.jit(chain), jax.jit(jax.jit(chain))])
def test_features_are_in_the_order_in_which_they_are_computed(apply):
    program = read_features(apply, jnp.eye(4), X)
    assert [node.name for node in program.nodes if node.named] == ["z", "a"]
    assert dict(program.skipped) == {
        "input": "expected what depends on weights and inputs; found inputs alone"
    }


def test_equal_functions_make_equal_adapters():
    for adapter in (NamedFeatures, WithoutFeatures):
        assert adapter(chain) == adapter(chain)
        assert hash(adapter(chain)) == hash(adapter(chain))
        assert adapter(chain) != adapter(jnp.matmul)


@pytest.mark.parametrize(
    ("outputs", "found"), [(np.ones((2, 3)), r"an array of shape \(2, 3\)"), ((X, {}, X), "a tuple of 3")]
)
def test_what_is_no_pair_of_logits_and_features_is_refused(outputs, found):
    with pytest.raises(UserError, match=f"expected \\(logits, features\\); found .*{found}"):
        NamedFeatures(lambda variables, inputs: outputs)({}, X)
