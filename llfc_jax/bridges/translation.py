"""PyTorch's operators in JAX: those of torchax, and the few that reading a module needs otherwise."""

import contextlib
from collections.abc import Iterator
from functools import lru_cache, partial
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from llfc_jax.bridges.torch_import import import_torch
from llfc_jax.errors import UserError


class DrawsNumbersError(Exception):
    """A module asked for random numbers."""


@lru_cache(maxsize=1)
def environment() -> Any:
    """An environment of torchax of our own, which is on only while it is entered."""
    torch, torchax = import_torch()

    base: Any = torchax.tensor.Environment

    class Environment(base):
        def t2j_iso(self, values: Any) -> Any:
            """A tensor that a module keeps outside its parameters and buffers is a constant."""

            def constant(tensor: Any) -> Any:
                if isinstance(tensor, torchax.tensor.Tensor | torchax.view.View):
                    return tensor
                return self.to_xla(tensor.detach())

            leaves = torch.utils._pytree.tree_map_only(torch.Tensor, constant, values)
            return super().t2j_iso(leaves)

        dropout_key: Any = None
        """From which what is drawn is drawn; without one nothing is."""
        draws = 0

        def get_and_rotate_prng_key(self, generator: Any = None) -> Any:
            if self.dropout_key is None:
                raise DrawsNumbersError
            self.draws += 1
            return jax.random.fold_in(self.dropout_key, self.draws)

        def _is_same_device(self, tensor: Any, device: Any) -> bool:
            """Whatever moves between devices stays where it is."""
            ours = isinstance(tensor, torchax.tensor.Tensor)
            return ours or super()._is_same_device(tensor, device)

    with jax.ensure_compile_time_eval():  # torchax draws a key, which is no part of what is being traced
        found = Environment()
    found.override_op_definition(torch.nn.functional.batch_norm, _batch_norm)
    found.override_op_definition(torch.nn.functional.embedding_bag, _embedding_bag)
    convolution = torch.ops.aten.convolution
    by_torchax = found._ops[convolution].func
    found.override_op_definition(convolution, partial(_convolution, by_torchax))
    return found


def _convolution(by_torchax: Any, x: Any, weight: Any, bias: Any, *settings: Any) -> Any:
    """A convolution over images with channels last.

    In a loop, as along a path, XLA:CPU runs torchax's order, channels first, at a small part of its speed.
    """
    stride, padding, dilation, transposed, _, groups = settings
    env = weight._env
    images, kernel, offset = x.jax(), weight.jax(), None if bias is None else bias.jax()
    if transposed or images.ndim != 4:
        return env.j2t_iso(by_torchax(images, kernel, offset, *settings))
    found = jax.lax.conv_general_dilated(
        images.transpose(0, 2, 3, 1),
        kernel.transpose(2, 3, 1, 0),
        tuple(stride),
        [(side, side) for side in padding],
        rhs_dilation=tuple(dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )
    return env.j2t_iso((found if offset is None else found + offset).transpose(0, 3, 1, 2))


def _batch_norm(
    x: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Batch normalisation that updates the running statistics, as PyTorch's does and torchax's doesn't."""
    torch, _ = import_torch()
    if training and running_mean is not None:
        values = x.jax()
        axes = (0, *range(2, values.ndim))
        n = values.size // values.shape[1]
        mean, variance = jnp.mean(values, axes), jnp.var(values, axes) * n / (n - 1)
        for running, batch in ((running_mean, mean), (running_var, variance)):
            running.apply_jax_(
                lambda old, batch=batch: ((1 - momentum) * old + momentum * batch).astype(old.dtype)
            )
    return torch.batch_norm(x, weight, bias, running_mean, running_var, training, momentum, eps, False)


def _embedding_bag(
    ids: Any,
    weight: Any,
    offsets: Any = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Any:
    """Sums, means or maxima over rows of ids; torchax asks for the sizes of bags while it traces."""
    del norm_type, scale_grad_by_freq, sparse, include_last_offset  # for gradients, and for what is refused
    if offsets is not None or max_norm is not None:
        raise UserError(
            "calls embedding_bag with offsets, or on a table with max_norm, which it then writes; expected "
            "ids (n, length) and a table that stays as it is"
        )
    indices, table = ids.jax(), weight.jax()
    values, counted = table[indices], jnp.ones(indices.shape, table.dtype)
    if padding_idx is not None:
        counted = jnp.where(indices == padding_idx, 0, counted)
    if mode == "max":
        inside = counted[..., None] > 0
        found = jnp.where(inside, values, -jnp.inf).max(1)
        return ids._env.j2t_iso(jnp.where(inside.any(1), found, 0))
    scale = counted if per_sample_weights is None else counted * per_sample_weights.jax()
    total = (values * scale[..., None]).sum(1)
    return ids._env.j2t_iso(total / jnp.maximum(counted.sum(1), 1)[:, None] if mode == "mean" else total)


@contextlib.contextmanager
def drawing_from(key: Any) -> Iterator[None]:
    """Within it modules draw numbers, in the order of their calls, from a key of JAX."""
    env = environment()
    env.dropout_key, env.draws = key, 0
    try:
        yield
    finally:
        env.dropout_key = None


@contextlib.contextmanager
def without_dropout(torch: ModuleType, module: Any) -> Iterator[None]:
    """Within it, modules in training mode drop nothing."""
    dropping = (torch.nn.modules.dropout._DropoutNd, torch.nn.RNNBase, torch.nn.MultiheadAttention)
    for part in module.modules():
        if isinstance(part, dropping):
            part.training = False
    functional = torch.nn.functional
    off = {
        *(functional.dropout, functional.dropout1d, functional.dropout2d, functional.dropout3d),
        *(functional.alpha_dropout, functional.feature_alpha_dropout),
        *(torch.dropout, torch.dropout_, torch.feature_dropout, torch.alpha_dropout),
    }

    mode: Any = torch.overrides.TorchFunctionMode

    class NoDropout(mode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = dict(kwargs or {})
            if func in off:
                return args[0] if args else kwargs["input"]
            if func is functional.scaled_dot_product_attention:
                args, kwargs = (*args[:4], *([0.0, *args[5:]] if len(args) > 4 else [])), {**kwargs}
                if "dropout_p" in kwargs:
                    kwargs["dropout_p"] = 0.0
            return func(*args, **kwargs)

    with NoDropout():
        yield
