"""What the public functions take, by the names of their parameters; anything else is refused in one line."""

import functools
import inspect
import math
import numbers
import operator
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.corrections.correction import Correction
from llfc_jax.errors import UserError, kind_of
from llfc_jax.matching.alignment import DEFAULTS
from llfc_jax.matching.keeping import Keeper
from llfc_jax.measures.measure import Measure
from llfc_jax.path.arrays import as_arrays
from llfc_jax.path.curves import Curve
from llfc_jax.path.interpolation import check_same_structure
from llfc_jax.program.nodes import Program
from llfc_jax.symmetry import PermutationSpec, Symmetry, readable_path
from llfc_jax.types import Permutation, PyTree

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")

_MOST_ALPHAS = 100_001  # each is a network to evaluate on every batch

_MOST_PASSES = 10**9  # JAX counts them in int32

_NETWORKS = ("a", "b", "c", "variables", "permuted", "variables_a", "variables_b", "params_a", "params_b")
"""Pytrees of arrays, of one structure in one call."""


def checked(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """The same function, whose arguments are looked at first.

    It can be jitted and vmapped as before: what is being traced has a kind, but no values to look at.

    Example:
        >>> @checked
        ... def train(epochs): ...
        >>> train(epochs="ten")
        Traceback (most recent call last):
        llfc_jax.errors.UserError: epochs: expected an integer in [1, 1000000000]; found 'ten'
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def wrapper(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        bound = signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            if name in _READERS and value is not signature.parameters[name].default:
                single = signature.parameters[name].kind is not inspect.Parameter.VAR_POSITIONAL
                reader = _one_input if name == "inputs" and single else _READERS[name]
                bound.arguments[name] = reader(name, value)
        first, *others = [bound.arguments[name] for name in _NETWORKS if name in bound.arguments] or [None]
        for other in others:
            check_same_structure(first, other)
        return function(*bound.args, **bound.kwargs)

    return wrapper


def _instances(kind: type | types.UnionType, expected: str) -> Callable[[str, Any], Any]:
    def read(name: str, value: Any) -> Any:
        for one in value if isinstance(value, list | tuple) else (value,):
            if not isinstance(value, list | tuple) or not isinstance(one, kind):
                raise UserError(f"{name}: expected {expected}; found {_found(one)}")
        return value

    return read


def _instance(kind: type, expected: str) -> Callable[[str, Any], Any]:
    def read(name: str, value: Any) -> Any:
        if not isinstance(value, kind):
            raise UserError(f"{name}: expected {expected}; found {_found(value)}")
        return value

    return read


def _function(arguments: str) -> Callable[[str, Any], Any]:
    def read(name: str, value: Any) -> Any:
        if not callable(value):
            raise UserError(f"{name}: expected a function of ({arguments}); found {_found(value)}")
        return value

    return read


def _count(least: int, most: int) -> Callable[[str, Any], int]:
    def read(name: str, value: Any) -> int:
        try:
            number = least - 1 if isinstance(value, bool) else operator.index(value)
        except TypeError:
            number = least - 1
        if not least <= number <= most:
            raise UserError(f"{name}: expected an integer in [{least}, {most}]; found {_found(value)}")
        return number

    return read


def _network(name: str, value: PyTree) -> PyTree:
    if value is None:  # for JAX an empty tree
        raise UserError(f"{name}: expected a pytree of arrays; found None")
    for path, leaf in jax.tree.leaves_with_path(value):
        if not _is_numeric(leaf):
            where = readable_path(jax.tree_util.keystr(path))
            found = _found(leaf) if not where else f"{type(leaf).__name__} at {where}"
            raise UserError(f"{name}: expected a pytree of arrays; found {found}")
    return value


def _is_numeric(leaf: Any) -> bool:
    if isinstance(leaf, np.ndarray | np.generic):
        return jnp.issubdtype(leaf.dtype, np.number) or leaf.dtype == bool
    arrays = jax.Array | jax.ShapeDtypeStruct | numbers.Number
    return isinstance(leaf, arrays) or hasattr(leaf, "__jax_array__")


def _inputs(name: str, values: tuple[PyTree, ...]) -> tuple[PyTree, ...]:
    inputs = tuple(x if isinstance(x, numbers.Number) else as_arrays(x, name) for x in values)
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(inputs)]
    if shapes and not any(map(math.prod, shapes)):
        raise UserError(f"{name}: expected one example at least; found shape {shapes[0]}")
    return inputs


def _one_input(name: str, value: PyTree) -> PyTree:
    """One batch, or shapes."""
    leaves = jax.tree.leaves(value)
    if leaves and all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves):
        return value
    return _inputs(name, (value,))[0]


def _key(name: str, value: Any) -> Any:
    kind = getattr(value, "dtype", None)
    typed = kind is not None and jnp.issubdtype(kind, jax.dtypes.prng_key) and value.shape == ()
    if not typed and not (kind == np.uint32 and value.ndim == 1):
        raise UserError(f"{name}: expected a key, such as jax.random.key(0); found {_found(value)}")
    return value


def _permutation(name: str, value: Any) -> Permutation:
    if not isinstance(value, Mapping):
        raise UserError(f"{name}: expected a dict of index arrays by name; found {_found(value)}")
    for group, indices in value.items():
        if not isinstance(indices, jax.Array | np.ndarray) or not jnp.issubdtype(indices.dtype, jnp.integer):
            raise UserError(f"{name} {group}: expected an array of integers; found {_found(indices)}")
        size = indices.shape[-1] if indices.ndim else 0
        values = None if isinstance(indices, jax.core.Tracer) else np.sort(np.asarray(indices), axis=-1)
        if values is not None and not (values == np.arange(size)).all():
            raise UserError(f"{name} {group}: expected each of 0 to {size - 1} once; found other indices")
    return dict(value)


def _alpha(name: str, value: Any) -> Any:
    if isinstance(value, jax.Array | np.ndarray) and value.shape == () and jnp.isrealobj(value):
        return value
    if not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise UserError(f"{name}: expected a finite number; found {_found(value)}")
    return float(value)


def _alphas(name: str, value: Any) -> tuple[float, ...]:
    try:
        alphas = tuple(map(float, value))
    except (TypeError, ValueError):
        raise UserError(f"{name}: expected numbers in [0, 1]; found {_found(value)}") from None
    for alpha in alphas:
        if not 0 <= alpha <= 1:
            raise UserError(f"{name}: expected numbers in [0, 1]; found {alpha}")
    return alphas


def _networks(name: str, value: Any) -> list[PyTree]:
    if not isinstance(value, list | tuple):
        raise UserError(f"{name}: expected several networks in a list; found {_found(value)}")
    return [_network(f"{name}[{i}]", own) for i, own in enumerate(value)]


def _weights(name: str, value: Any) -> tuple[float, ...]:
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        raise UserError(f"{name}: expected a number for each network, in a tuple; found {_found(value)}")
    for own in (weights := tuple(value)):
        if not isinstance(own, numbers.Real) or isinstance(own, bool):
            raise UserError(f"{name}: expected numbers; found {_found(own)}")
    return tuple(map(float, weights))


def _output(name: str, value: Any) -> str | int:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UserError(f"{name}: expected a key or an index; found {_found(value)}")
    return value


def _num_examples(name: str, value: Any) -> Any:
    return value if callable(value) else _count(1, _MOST_PASSES)(name, value)


def _names(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise UserError(f"{name}: expected a tuple of names; found {_found(value)}")
    return tuple(value)


def _optimizer(name: str, value: Any) -> Any:
    if not (callable(getattr(value, "init", None)) and callable(getattr(value, "update", None))):
        raise UserError(f"{name}: expected one of optax, such as optax.adam(1e-3); found {_found(value)}")
    return value


def _method(name: str, value: Any) -> Any:
    if not isinstance(value, str) and not callable(value):
        raise UserError(f"{name}: expected a name, or a Matcher; found {_found(value)}")
    return value


def _positive(name: str, value: Any) -> float:
    if not isinstance(value, numbers.Real) or isinstance(value, bool) or not 0 < float(value) < math.inf:
        raise UserError(f"{name}: expected a positive number; found {_found(value)}")
    return float(value)


def _options(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(f"{name}: expected a dict of them by name; found {_found(value)}")

    def read(option: str, own: Any) -> Any:
        is_default = option in DEFAULTS and own is DEFAULTS[option]  # which may be None
        return own if is_default or option not in _READERS else _READERS[option](f"{name} {option}", own)

    return {option: read(option, own) for option, own in value.items()}


def _network_function(name: str, value: Any) -> Any:
    if not isinstance(value, Program) and not callable(value):
        expected = "what `read` returns, or a function of (variables, inputs)"
        raise UserError(f"{name}: expected {expected}; found {_found(value)}")
    return value


def _found(value: Any) -> str:
    """A value, if it is short enough to be shown."""
    if isinstance(value, str | numbers.Number) and len(repr(value)) < 50:
        return repr(value)
    return kind_of(value)


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "apply": _function("variables, inputs"),
    "apply_with_features": _function("variables, inputs"),
    "loss_fn": _function("outputs, labels, or variables, batch of a matcher"),
    "output": _output,
    "num_examples": _num_examples,
    **dict.fromkeys(_NETWORKS, _network),
    **dict.fromkeys(("networks", "networks_a", "networks_b"), _networks),
    "weights": _weights,
    "correction": _instance(Correction, "a Correction"),
    "inputs": _inputs,
    "key": _key,
    "program": _instance(Program, "what `read` returns"),
    "features": _function("variables, inputs"),
    "measures": _instances(str | Measure, "names of measures, or Measures, in a tuple"),
    "curve": _instance(Curve, "what `train_curve` returns"),
    "kind": _instance(str, "a name"),
    "corrections": _instances(Correction, "Corrections, in a tuple"),
    "name": _instance(str, "a name"),
    "top_k": _count(1, _MOST_PASSES),
    "spec": _instance(PermutationSpec, "what `permutation_spec` returns"),
    "symmetry": _instance(Symmetry, "what `symmetries` returns"),
    "classes": _names,
    "start_b": _network,
    "permutation": _permutation,
    "start": _permutation,
    "alpha": _alpha,
    "alphas": _alphas,
    "num_alphas": _count(2, _MOST_ALPHAS),
    "size": _count(2, _MOST_ALPHAS),
    **dict.fromkeys(
        ("epochs", "steps", "sweeps", "restarts", "max_sweeps", "max_rounds"), _count(1, _MOST_PASSES)
    ),
    "statistic": _instance(str, "a name"),
    "relaxation": _instance(str, "a name"),
    "assignment": _instance(str, "a name"),
    "exclude": _names,
    "optimizer": _optimizer,
    "keeper": _instance(Keeper, "an object that can restore and keep"),
    "network": _network_function,
    "method": _method,
    "loss": _function("variables, batch"),
    "options": _options,
    "learning_rate": _positive,
    "seed": _count(0, 2**32 - 1),
}
"""Name of a parameter -> (the name, an argument) -> the argument as the function takes it."""
