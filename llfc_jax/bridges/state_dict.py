"""A module's state dict as variables: one leaf for each tensor, however many names it has."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.errors import UserError
from llfc_jax.types import Array

Arrays = dict[str, Array]
"""Name in the state dict -> array."""


class Alias(NamedTuple):
    """One more name of a tensor, or of a tensor with its axes in another order."""

    leaf: str
    axes: tuple[int, ...]


class Layout(NamedTuple):
    """What a module's state dict holds."""

    names: tuple[str, ...]
    """All its keys, in order."""
    leaves: dict[str, Any]
    """Name -> an empty tensor of that shape and dtype."""
    aliases: dict[str, Alias]
    others: dict[str, Any]
    """What the state dict holds besides parameters and buffers, such as a module's extra state."""


def layout_of(torch: Any, module: Any) -> Layout:
    """Which arrays a module's state dict is made of.

    Tensors that lie in the same memory are one leaf, by the first of their names.

    Raises:
        UserError: a tensor has no values yet, has no counterpart in JAX, or shares a part of its memory.
    """
    state = module.state_dict(keep_vars=True)
    registered = {*dict(named_tensors(module))}
    leaves: dict[str, Any] = {}
    aliases: dict[str, Alias] = {}
    others: dict[str, Any] = {}
    for name, tensor in state.items():
        if name not in registered:
            others[name] = tensor.detach().clone() if torch.is_tensor(tensor) else tensor
            continue
        _check_readable(torch, name, tensor)
        sharing = next((leaf for leaf in leaves if _overlap(leaves[leaf], tensor)), None)
        if sharing is None:
            leaves[name] = tensor
        else:
            aliases[name] = _alias(sharing, leaves[sharing], name, tensor)
    empty = {
        name: torch.empty(tensor.shape, dtype=tensor.dtype, device="meta") for name, tensor in leaves.items()
    }
    return Layout(tuple(state), empty, aliases, others)


def named_tensors(module: Any) -> list[tuple[str, Any]]:
    """Parameters and buffers by all their names, those that aren't saved among them."""
    return [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]


def _check_readable(torch: Any, name: str, tensor: Any) -> None:
    if isinstance(tensor, torch.nn.parameter.UninitializedTensorMixin):
        raise UserError(f"from_torch: {name} has no shape yet; call the module once before it is read")
    if tensor.device.type == "meta":
        raise UserError(f"from_torch: {name} has no values: it is on the meta device")
    if tensor.layout != torch.strided or tensor.is_quantized:
        kind = "a quantized tensor" if tensor.is_quantized else tensor.layout
        raise UserError(f"from_torch: {name}: expected an ordinary dense tensor; found {kind}")


def _memory(tensor: Any) -> range:
    spans = (stride * (size - 1) for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    start, width = tensor.data_ptr(), tensor.element_size()
    return range(start, start + (sum(spans) + 1) * width if tensor.numel() else start)


def _overlap(one: Any, other: Any) -> bool:
    if one.device != other.device:
        return False
    a, b = _memory(one), _memory(other)
    return max(a.start, b.start) < min(a.stop, b.stop)


def _alias(leaf: str, tensor: Any, name: str, other: Any) -> Alias:
    def axes(x: Any) -> list[int]:
        return sorted(range(x.ndim), key=lambda axis: (-x.stride(axis), -x.shape[axis]))

    if (_memory(tensor), tensor.dtype) == (_memory(other), other.dtype):
        order, other_order = axes(tensor), axes(other)
        taken = tuple(order[other_order.index(axis)] for axis in range(other.ndim))
        if all(tensor.shape[i] == size for i, size in zip(taken, other.shape, strict=True)):
            return Alias(leaf, taken)
    raise UserError(
        f"from_torch: {leaf} and {name} share a part of their memory; expected tensors that are apart, or one"
    )


def to_variables(torch: Any, layout: Layout, state: Mapping[str, Any]) -> Arrays:
    """The leaves of a state dict, in the dtypes of the module.

    Args:
        torch: PyTorch.
        layout: of the module.
        state: name -> tensor or array, of a module of the same kind. Of the names of one tensor, one will do.

    Raises:
        UserError: names the first entry at fault.
    """
    state = _unwrapped(layout, state)
    for name in layout.names:
        if name not in state and name not in layout.others and not _other_name(layout, name, state):
            expected = tuple(_expected(layout, name).shape)
            raise UserError(f"state dict: {name}: expected shape {expected}; found no such entry")
    for name in state:
        if name not in layout.names:
            raise UserError(
                f"state dict: {name}: expected no such entry; found shape {tuple(np.shape(state[name]))}"
            )
    for name in layout.names:
        if name in state and name not in layout.others:
            expected, found = tuple(_expected(layout, name).shape), tuple(state[name].shape)
            if expected != found:
                raise UserError(f"state dict: {name}: expected shape {expected}; found {found}")
    for name, (leaf, axes) in layout.aliases.items():
        if name in state and leaf in state:
            one, other = _to_numpy(torch, state[leaf]).transpose(axes), _to_numpy(torch, state[name])
            if one.tobytes() != other.tobytes():
                raise UserError(
                    f"state dict: {leaf} and {name} are one tensor in the module; found two that differ"
                )
    return {
        name: _to_jax(torch, name, _value(layout, name, state), empty.dtype)
        for name, empty in layout.leaves.items()
    }


def _unwrapped(layout: Layout, state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without the prefix that DataParallel and torch.compile put before every name."""
    for prefix in ("module.", "_orig_mod."):
        if state and all(name.startswith(prefix) for name in state):
            bare = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
            if not bare.keys().isdisjoint(layout.names):
                return bare
    return state


def _expected(layout: Layout, name: str) -> Any:
    if name in layout.aliases:
        leaf, axes = layout.aliases[name]
        return layout.leaves[leaf].permute(axes)
    return layout.leaves[name]


def _other_name(layout: Layout, name: str, state: Mapping[str, Any]) -> str | None:
    """Another name of the same tensor that a state dict has."""
    leaf = layout.aliases[name].leaf if name in layout.aliases else name
    names = [leaf, *(alias for alias, (other, _) in layout.aliases.items() if other == leaf)]
    return next((other for other in names if other in state), None)


def _value(layout: Layout, leaf: str, state: Mapping[str, Any]) -> Any:
    if leaf in state:
        return state[leaf]
    name = _other_name(layout, leaf, state)
    assert name is not None
    return state[name].permute(*np.argsort(layout.aliases[name].axes).tolist())


def to_state_dict(torch: Any, layout: Layout, variables: Mapping[str, Array]) -> "OrderedDict[str, Any]":
    """The state dict of variables, for `module.load_state_dict`; names of one tensor share it.

    Raises:
        UserError: a leaf is missing or has another shape.
    """
    found: dict[str, Any] = {}
    for name, empty in layout.leaves.items():
        shape = np.shape(variables[name]) if name in variables else "no such leaf"
        if shape != tuple(empty.shape):
            raise UserError(f"variables: {name}: expected shape {tuple(empty.shape)}; found {shape}")
        found[name] = to_torch(torch, np.asarray(variables[name])).to(empty.dtype)
    for name, (leaf, axes) in layout.aliases.items():
        found[name] = found[leaf].permute(axes) if axes != tuple(range(len(axes))) else found[leaf]
    return OrderedDict(
        (name, layout.others[name] if name in layout.others else found[name]) for name in layout.names
    )


def to_array(torch: Any, name: str, tensor: Any) -> Array:
    """A tensor as an array of JAX, bit for bit.

    Raises:
        UserError: JAX can't hold its numbers.
    """
    array = _to_numpy(torch, tensor)
    held = jax.dtypes.canonicalize_dtype(array.dtype)
    if held != array.dtype:
        if array.dtype.kind in "fc":
            raise UserError(
                f"{name}: expected at most 32-bit floats; found {array.dtype}: take module.float(), or set "
                "JAX_ENABLE_X64=1"
            )
        if array.size and (array.max() > np.iinfo(held).max or array.min() < np.iinfo(held).min):
            raise UserError(f"{name}: expected integers of 32 bits; found larger ones: set JAX_ENABLE_X64=1")
    return jnp.asarray(array.astype(held))


def _to_jax(torch: Any, name: str, tensor: Any, dtype: Any) -> Array:
    tensor = tensor if torch.is_tensor(tensor) else to_torch(torch, np.asarray(tensor))
    if tensor.is_floating_point() != dtype.is_floating_point or tensor.is_complex() != dtype.is_complex:
        raise UserError(f"state dict: {name}: expected {dtype}; found {tensor.dtype}")
    return to_array(torch, name, tensor.detach().to(dtype))


def _to_numpy(torch: Any, tensor: Any) -> np.ndarray:
    if not torch.is_tensor(tensor):
        return np.asarray(tensor)
    tensor = tensor.detach().cpu().contiguous()
    try:
        return tensor.numpy()
    except TypeError:  # a dtype that NumPy has from JAX
        bits = {1: torch.uint8, 2: torch.int16}[tensor.element_size()]
        return tensor.view(bits).numpy().view(jnp.dtype(str(tensor.dtype).removeprefix("torch.")))


def to_torch(torch: Any, array: np.ndarray) -> Any:
    """An array as a tensor of its own, bit for bit."""
    array = np.array(array, order="C")
    if array.dtype.kind == "V":  # from JAX
        bits = {1: np.uint8, 2: np.int16}[array.dtype.itemsize]
        return torch.from_numpy(array.view(bits)).view(getattr(torch, array.dtype.name))
    return torch.from_numpy(array)
