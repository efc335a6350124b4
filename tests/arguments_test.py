"""Wrong kinds of arguments: every public function refuses each in one line, and right ones pass untouched."""

import inspect

import jax
import numpy as np
import optax
import pytest

import llfc_jax
from llfc_jax import api
from llfc_jax.arguments import checked
from llfc_jax.corrections.correction import Correction
from llfc_jax.errors import UserError

KEY = jax.random.key(0)
X, Y = np.ones((4, 5), np.float32), np.arange(4) % 3


def apply(w, x):
    return jax.nn.relu(x @ w["in"]) @ w["out"]


def loss(w, batch):
    return optax.softmax_cross_entropy_with_integer_labels(apply(w, batch[0]), batch[1]).mean()


def network(seed):
    rng = np.random.default_rng(seed)
    drawn = {"in": rng.normal(size=(5, 8)), "out": rng.normal(size=(8, 3))}
    return jax.device_put(jax.tree.map(np.float32, drawn))


A, B = network(0), network(1)
SPEC = llfc_jax.permutation_spec(apply, A, X)
SYMMETRY = llfc_jax.symmetries(apply, A, X)
IDENTITY = {"P0": jax.device_put(np.arange(8))}
MATCHED = {"key": KEY, "spec": SPEC}

UNCHANGED = Correction(
    "unchanged",
    lambda program, a, b, alphas, batches: {},
    lambda variables, batches: variables,
    lambda program, networks, shares, batches: [*batches()],
)

CALLS = {
    "evaluate_path": {"apply": apply, "a": A, "b": B, "batches": [(X, Y)], "num_alphas": 3}
    | {"loss_fn": None, "output": None, "num_examples": None},
    "measure_features": {
        "apply_with_features": lambda w, x: (apply(w, x), {"in": x @ w["in"]}),
        **{"a": A, "b": B, "batches": [X], "alphas": (0.5,), "num_examples": None},
    },
    "read": {"apply": apply, "variables": A, "inputs": X, "features": None, "output": None},
    "measure": {
        **{"program": llfc_jax.read(apply, A, X), "a": A, "b": B, "batches": [(X, Y)], "measures": ("lmc",)},
        **{"num_alphas": 3, "alphas": (0.5,), "top_k": 2, "corrections": (), "name": "network"},
        **{"loss_fn": None, "num_examples": None, "curve": None},
    },
    "train_curve": {
        **{"network": apply, "a": A, "b": B, "batches": [(X, Y)], "kind": "polygon", "steps": 2},
        **{"learning_rate": 0.01, "loss": None, "seed": 0},
    },
    "train_star": {
        **{"network": apply, "networks": [A, B], "batches": [(X, Y)], "steps": 2},
        **{"learning_rate": 0.01, "loss": None, "seed": 0},
    },
    "evaluate_plane": {
        **{"apply": apply, "a": A, "b": B, "c": network(2), "batches": [(X, Y)]},
        **{"size": 2, "loss_fn": None},
    },
    "align": {
        **{"network": apply, "a": A, "b": B, "batches": [X], "method": "weight_matching", "seed": 0},
        **{"loss": None, "options": {"restarts": 1}},
    },
    "permutation_spec": {"apply": apply, "variables": A, "inputs": X},
    "check_equivalence": {"apply": apply, "variables": A, "permuted": A, "inputs": X},
    "describe": {"spec": SPEC},
    "apply_permutation": {"spec": SPEC, "permutation": IDENTITY, "variables": B},
    "weight_matching": {
        **MATCHED,
        **{"params_a": A, "params_b": B, "restarts": 1, "max_sweeps": 5},
        **{"assignment": "auto", "exclude": ("batch_stats",)},
    },
    "activation_matching": {
        **MATCHED,
        **{"a": A, "b": B, "apply": apply, "batches": [X], "statistic": "correlation", "num_examples": None},
    },
    "straight_through": {
        **MATCHED,
        **{"variables_a": A, "variables_b": B, "loss_fn": loss, "batches": [(X, Y)]},
        **{"optimizer": optax.adam(0.1), "epochs": 1, "start": IDENTITY, "sweeps": 1},
        **{"assignment": "auto", "exclude": ("batch_stats",)},
    },
    "symmetries": {"apply": apply, "variables": A, "inputs": X},
    "procrustes_matching": {
        **{"key": KEY, "symmetry": SYMMETRY, "variables_a": A, "variables_b": B, "classes": ("scaling",)},
        **{"max_rounds": 1, "exclude": ("batch_stats",)},
    },
    "learned_matching": {
        **{"key": KEY, "symmetry": SYMMETRY, "variables_a": A, "variables_b": B, "loss_fn": loss},
        **{"batches": [(X, Y)], "optimizer": optax.adam(0.1), "epochs": 1, "classes": ()},
        **{"start_b": B, "relaxation": "sinkhorn", "exclude": ("batch_stats",), "keeper": None},
    },
    "universe_matching": {
        **MATCHED,
        **{"networks": [A, B, A], "restarts": 1, "max_sweeps": 5},
        **{"assignment": "auto", "exclude": ("batch_stats",)},
    },
    "simultaneous_matching": {
        **MATCHED,
        **{"networks_a": [A, A], "networks_b": [B, B], "restarts": 1, "max_sweeps": 5},
        **{"assignment": "auto", "exclude": ("batch_stats",)},
    },
    "constraint_ladder": {
        **{"network": apply, "a": A, "b": B, "batches": [(X, Y)], "method": "weight_matching", "seed": 0},
        **{"options": {"restarts": 1}},
    },
    "merge_many": {
        **{"networks": [A, B], "weights": (1, 2), "correction": UNCHANGED},
        **{"program": llfc_jax.read(apply, A, X), "batches": [X]},
    },
    "lerp": {"a": A, "b": B, "alpha": 0.5},
    "alpha_grid": {"size": 5},
}

NO_FUNCTION = [None, 3, "apply", A]
NO_NETWORK = [None, "network", {"in": "w"}, {"in": object()}, {"in": np.array(["w"])}, apply]
NO_COUNT = [None, 0, -1, 2.5, np.nan, "3", True, (3,), 10**12]
NO_KEY = [0, None, "key", np.zeros(2), jax.random.split(KEY)]
NO_PERMUTATION = [
    *([3, "P0", np.arange(8), {}, {"P0": None}, {"P0": list(range(8))}, {"P1": np.arange(8)}]),
    *({"P0": p} for p in (np.arange(7), np.zeros(8, int), np.arange(8) + 1, np.arange(8.0))),
]
NO_NETWORKS = [None, 3, A, [], [A, 3], [A, {"in": A["in"]}]]
WRONG = {
    **dict.fromkeys(("apply", "apply_with_features"), NO_FUNCTION),
    "loss_fn": [3, "apply", A],
    "output": ["logits", 0, 1.5, ("logits",)],
    "num_examples": [0, -1, 2.5, "3", True, (3,), 10**12, lambda inputs: None],
    **dict.fromkeys(("a", "b", "c", "variables", "permuted"), NO_NETWORK),
    "curve": [3, "bezier", A],
    "kind": [None, 3, "circle"],
    "learning_rate": [None, 0, -1, "fast", np.nan, np.inf, True],
    **dict.fromkeys(("params_a", "params_b", "variables_a", "variables_b"), NO_NETWORK),
    "batches": [None, 3, "batches", X, {"image": X}, ["batch"], [None], [], [[object()]]],
    "inputs": ["x", object(), np.zeros((0, 5), np.float32), [[1.0, 2.0], [3.0]]],
    "key": NO_KEY,
    "spec": [None, {}, "P0", 8],
    "symmetry": [None, {}, SPEC],
    "classes": [3, "scaling", ("orthogonal",), (3,)],
    "start_b": NO_NETWORK[1:],
    **dict.fromkeys(("networks", "networks_a", "networks_b"), NO_NETWORKS),
    "weights": [3, "12", {}, (1,), (1, -1), (0, 0), (1, np.nan), (1, "2"), (True, 1)],
    "correction": [3, "repair", apply],
    "permutation": [None, *NO_PERMUTATION],
    "start": NO_PERMUTATION,
    "alpha": [None, "half", np.nan, np.inf, 1j, (0.5,), [0.5], np.ones(3), A],
    "alphas": [None, 0.5, "half", (), (None,), (0.5, 1.5), (np.nan,), A],
    **dict.fromkeys(("num_alphas", "top_k", "size", "epochs", "sweeps", "restarts", "steps"), NO_COUNT),
    **dict.fromkeys(("max_sweeps", "max_rounds"), NO_COUNT),
    "program": [None, 3, "network", SPEC],
    "features": [3, "features", A],
    "measures": [None, 3, "lmc", (3,), ("likeness",), [object()]],
    "corrections": [None, 3, ("recompute",), (apply,)],
    "name": [None, 3, ("network",)],
    "network": [None, 3, "network", SPEC],
    "method": [None, 3, "likeness", {}],
    "seed": [None, -1, 2.5, "3", True, (3,), 10**12],
    "loss": [3, "loss", A],
    "options": [
        3,
        "restarts",
        {"restart": 1},
        {"restarts": 0},
        {"restarts": "many"},
        {"restarts": None},
        {"learning_rate": 0},
    ],
    "statistic": [None, 3, "likeness", {}],
    "relaxation": [None, 3, "soft", {}],
    "assignment": [None, 3, "best", {}],
    "exclude": [None, 3, "batch_stats"],
    "optimizer": [None, 0.1, "adam", optax.adam],
    "keeper": [3, "directory", A],
}


def call(name, arguments):
    function, arguments = getattr(llfc_jax, name), dict(arguments)
    if "inputs" in arguments and name != "read":  # the function's *inputs
        inputs = arguments.pop("inputs")
        return function(*arguments.values(), inputs)
    return function(**arguments)


def wrong_calls():
    for name, arguments in CALLS.items():
        for argument in arguments:
            for index, value in enumerate(WRONG[argument]):
                yield pytest.param(name, argument, value, id=f"{name}-{argument}-{index}")


def test_every_argument_of_every_public_function_is_tried():
    assert CALLS.keys() == {*api.__all__} - {"report"}  # it has a test of its own
    for name, arguments in CALLS.items():
        assert arguments.keys() == inspect.signature(getattr(llfc_jax, name)).parameters.keys(), name


@pytest.mark.parametrize("name", CALLS)
def test_right_arguments_are_taken(name):
    call(name, CALLS[name])


@pytest.mark.parametrize(("name", "argument", "value"), [*wrong_calls()])
def test_a_wrong_argument_is_one_line(name, argument, value):
    with pytest.raises(UserError) as caught:
        call(name, CALLS[name] | {argument: value})
    line = str(caught.value)
    assert "expected" in line
    assert "found" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"in": np.ones((5, 9), np.float32)}, r"the networks differ at in: found \(5, 8\) and \(5, 9\)"),
        ({"in": np.ones((1, 8), np.float32)}, r"the networks differ at in: found \(5, 8\) and \(1, 8\)"),
        ({"in": np.ones((5, 8), int)}, r"the networks differ at in: found \(5, 8\) and integers \(5, 8\)"),
        ({"bias": np.ones(3, np.float32)}, r"the networks differ at bias: found nothing and \(3,\)"),
    ],
)
@pytest.mark.parametrize("name", ["lerp", "evaluate_path", "check_equivalence", "straight_through"])
def test_two_networks_are_of_one_structure(name, changes, line):
    second = next(key for key in ("b", "permuted", "variables_b") if key in CALLS[name])
    with pytest.raises(UserError, match=line):
        call(name, CALLS[name] | {second: B | changes})


def test_pytorchs_tensors_are_inputs_but_no_network():
    torch = pytest.importorskip("torch")
    assert llfc_jax.permutation_spec(apply, A, torch.from_numpy(X)) == SPEC
    assert llfc_jax.check_equivalence(apply, A, A, torch.from_numpy(X)) == 0
    with pytest.raises(UserError, match=r"^a: expected a pytree of arrays; found Tensor at in$"):
        llfc_jax.lerp({"in": torch.ones(2)}, {"in": torch.ones(2)}, 0.5)


@pytest.mark.parametrize("returned", [(0.0, {}), np.zeros(2), np.int32(0), None])
def test_a_loss_that_is_no_number_is_refused(returned):
    with pytest.raises(
        UserError, match=r"^loss_fn: expected a (scalar|floating-point number), found"
    ) as caught:
        call("straight_through", CALLS["straight_through"] | {"loss_fn": lambda w, batch: returned})
    assert "\n" not in str(caught.value)


def test_checked_functions_can_be_traced():
    halves = jax.jit(jax.vmap(llfc_jax.lerp, in_axes=(None, None, 0)))(A, B, np.float32([0.0, 0.5]))
    jax.tree.map(np.testing.assert_allclose, jax.tree.map(lambda x: x[1], halves), llfc_jax.lerp(A, B, 0.5))
    permutation = {"P0": jax.device_put(np.arange(8)[::-1])}
    traced = jax.jit(lambda p, w: llfc_jax.apply_permutation(SPEC, p, w))(permutation, A)
    jax.tree.map(np.testing.assert_array_equal, traced, llfc_jax.apply_permutation(SPEC, permutation, A))


def test_a_checked_function_looks_like_itself():
    @checked
    def train(epochs: int = 3) -> int:
        """Train."""
        return epochs

    assert (train(), train(2), train(np.int64(2))) == (3, 2, 2)
    assert (train.__doc__, train.__name__) == ("Train.", "train")
    assert list(inspect.signature(train).parameters) == ["epochs"]
    with pytest.raises(TypeError, match="unexpected keyword argument 'epoch'"):
        train(epoch=2)
