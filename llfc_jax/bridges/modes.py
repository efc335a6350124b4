"""What a module computes in evaluation or in training mode: its program, and the names of its results."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from llfc_jax.bridges.any_batch import Affine, NotOneProgramError, Program, any_size, at, one_size
from llfc_jax.bridges.inputs import Inputs, arrays_of
from llfc_jax.bridges.reading import Run, run_in_jax, run_in_torch
from llfc_jax.bridges.state_dict import Layout, named_tensors, to_array, to_torch
from llfc_jax.bridges.torch_import import import_torch
from llfc_jax.bridges.translation import environment
from llfc_jax.errors import UserError
from llfc_jax.types import Array, PRNGKey

_SIZES = (13, 17, 19)
"""Batch sizes at which a module is traced: unlikely to be another of its sizes, and none is 1."""

_TOLERANCE = {1: 0.5, 2: 0.1, 4: 1e-3, 8: 1e-3}
"""Bytes of a number -> how far an array may be from PyTorch's, as a part of its largest entry."""


class Source(NamedTuple):
    """A module that is being read."""

    module: Any
    layout: Layout
    inputs: Inputs
    variables: dict[str, Array]
    constants: dict[str, Array]
    """Buffers that aren't saved."""


class Label(NamedTuple):
    """What a result of a program is."""

    kind: str
    """`output`, `feature` or `buffer`."""
    name: str


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Function:
    """A program of variables and inputs."""

    program: Program
    leaves: tuple[str, ...]
    names: tuple[str, ...]
    """Of its results."""
    why_fixed: str

    def __call__(
        self, inputs: Inputs, variables: Mapping[str, Array], given: Any, *key: PRNGKey
    ) -> list[Array]:
        count = len(self.leaves)
        shapes, dtypes = self.program.in_shapes, self.program.in_dtypes
        taken = []
        for name, shape, dtype in zip(self.leaves, shapes[:count], dtypes[:count], strict=True):
            found = np.shape(variables[name]) if name in variables else "no such leaf"
            if found != shape:
                raise UserError(f"variables: {name}: expected shape {shape}; found {found}")
            taken.append(jnp.asarray(variables[name]).astype(dtype))
        n, arrays = arrays_of(given, inputs, shapes[count + len(key) :], self.why_fixed)
        return self.program(n, [*taken, *key, *arrays])


class Reading(NamedTuple):
    """What a module computes in one mode."""

    trace: ClosedJaxpr
    """At the size of the example."""
    program: Program
    labels: tuple[Label, ...]
    """Of the results."""
    leaves: tuple[str, ...]
    why_fixed: str
    """Why the program is for one batch size; empty where it isn't."""

    def position(self, output: str) -> int:
        if Label("output", output) not in self.labels:
            raise UserError(f"from_torch: the module doesn't return {output} when it is called")
        return self.labels.index(Label("output", output))

    def outputs(self) -> dict[str, jax.ShapeDtypeStruct]:
        """The entries of what the module returns that can be logits."""
        return {
            name: jax.ShapeDtypeStruct(aval.shape, aval.dtype)
            for (kind, name), aval in zip(self.labels, self.trace.out_avals, strict=True)
            if kind == "output" and jnp.issubdtype(aval.dtype, jnp.floating)
        }

    def features(self, batch_size: int) -> list[int]:
        """Those that are floats with an entry for each example."""
        batch = batch_size if self.why_fixed else Affine(1, 0)
        return [
            index
            for index, (kind, _) in enumerate(self.labels)
            if kind == "feature"
            and jnp.issubdtype(self.trace.out_avals[index].dtype, jnp.floating)
            and self.program.out_shapes[index][:1] == (batch,)
        ]

    def changed(self) -> list[int]:
        return [index for index, label in enumerate(self.labels) if label.kind == "buffer"]

    def function(self, results: list[int]) -> Function:
        names = tuple(self.labels[index].name for index in results)
        return Function(self.program.only(results), self.leaves, names, self.why_fixed)


def read(source: Source, *, training: bool, known: Reading | None = None) -> Reading:
    """The program of a module in one mode, for batches of any size where there is one, compared to PyTorch.

    Args:
        source: the module.
        training: the mode.
        known: in the other mode; returned where both are the same.

    Raises:
        UserError: the module can't be read: one line that names the place.
    """
    trace, labels = _trace(source, source.inputs.examples, training)
    if known is not None and labels == known.labels and _same(trace, known.trace):
        return known
    reading = _with_program(source, training, trace, labels)
    _check_against_torch(source, reading, training)
    return reading


def read_dropping(source: Source) -> Reading | None:
    """The program in training mode with dropout, of a key besides; None where nothing is dropped.

    PyTorch draws other numbers, with which there is nothing to compare.

    Raises:
        UserError: the module can't be read so.
    """
    trace, labels = _trace(source, source.inputs.examples, training=True, keyed=True)
    if not environment().draws:
        return None
    return _with_program(source, True, trace, labels, keyed=True)


def _same(trace: ClosedJaxpr, other: ClosedJaxpr) -> bool:
    return str(trace) == str(other) and all(map(np.array_equal, trace.consts, other.consts))


def _with_program(
    source: Source, training: bool, trace: ClosedJaxpr, labels: tuple[Label, ...], *, keyed: bool = False
) -> Reading:
    size, why_fixed = source.inputs.batch_size, ""
    try:
        program = _read_any_size(source, training, {size: trace}, labels, keyed)
    except (NotOneProgramError, UserError) as error:
        reason = str(error).removeprefix("from_torch: ")
        why_fixed = f"the module's program changes with the batch size: {reason}"
        program = one_size(trace)
    return Reading(trace, program, labels, tuple(source.variables), why_fixed)


def _read_any_size(
    source: Source, training: bool, traces: dict[int, ClosedJaxpr], labels: tuple[Label, ...], keyed: bool
) -> Program:
    """The program for batches of any size; a batch of 1 is an instance, but no pattern for others."""
    ((size, example),) = traces.items()
    traces = {size: example} if size > 1 else {}
    for other in _SIZES:
        if len(traces) < 3 and other != size:
            traces[other], found = _trace(source, source.inputs.shapes(other), training, keyed=keyed)
            if found != labels:
                raise NotOneProgramError("it makes other calls")
    program = any_size(traces)
    if at(program.out_shapes, size) != tuple(aval.shape for aval in example.out_avals):
        raise NotOneProgramError(f"its shapes are others for a batch of {size}")
    return program


def _trace(
    source: Source, inputs: Any, training: bool, *, keyed: bool = False
) -> tuple[ClosedJaxpr, tuple[Label, ...]]:
    labels: list[Label] = []

    def traced(variables: list[Array], key: PRNGKey | None, leaves: list[Array]) -> list[Array]:
        given = _all_tensors(source, dict(zip(source.variables, variables, strict=True)))
        run = run_in_jax(source.module, given, source.inputs.call(leaves), training=training, key=key)
        found = {
            **{Label("output", name): array for name, array in run.outputs.items()},
            **{Label("feature", name): array for name, array in run.features.items()},
            **{
                Label("buffer", name): array for name, array in _changed(source, given, run, training).items()
            },
        }
        labels[:] = found
        return list(found.values())

    with (
        jax.default_matmul_precision(None),  # each call of the program has its own
        jax.numpy_rank_promotion("allow"),  # as PyTorch does, whatever the caller wants of his own code
        jax.numpy_dtype_promotion("standard"),
    ):
        try:
            key = jax.random.key(0) if keyed else None
            jaxpr = jax.make_jaxpr(traced)(list(source.variables.values()), key, list(inputs))
        except UserError as error:
            raise UserError(str(error)) from error  # without the notes of JAX
    return jaxpr, tuple(labels)


def _all_tensors(source: Source, variables: dict[str, Array]) -> dict[str, Array]:
    """Parameters and buffers by all their names; those that aren't saved are constants."""
    found = dict(variables)
    for name, (leaf, axes) in source.layout.aliases.items():
        found[name] = variables[leaf] if axes == tuple(range(len(axes))) else variables[leaf].transpose(axes)
    return {**source.constants, **found}


def _changed(source: Source, given: dict[str, Array], run: Run, training: bool) -> dict[str, Array]:
    """The buffers that a call has written."""
    changed = {name: array for name, array in run.tensors.items() if array is not given[name]}
    changed = {name: array for name, array in changed.items() if name not in source.layout.aliases}
    buffers = dict(source.module.named_buffers(remove_duplicate=False))
    for name in changed:
        if not training or name not in buffers or name not in source.variables:
            raise UserError(f"from_torch: the module writes its own {name} when it is called")
    return changed


def _check_against_torch(source: Source, reading: Reading, training: bool) -> None:
    """Compare all that a module computes on the example with what PyTorch computes.

    How far rounding may take them apart is seen in PyTorch, from weights that differ in their last digits.

    Raises:
        UserError: names the first array that is another one.
    """
    expected, nearby = (_results_of_torch(source, training, nudge) for nudge in (0.0, 1e-6))
    everything = reading.function(list(range(len(reading.labels))))
    with jax.default_matmul_precision("highest"):
        given = jax.tree.unflatten(source.inputs.tree, source.inputs.examples)
        found = everything(source.inputs, source.variables, given)
    results = dict(zip(reading.labels, found, strict=True))
    unchanged = {Label("buffer", name): array for name, array in source.variables.items()}
    for (kind, name), array in {**unchanged, **results}.items():
        if Label(kind, name) not in expected:
            raise UserError(f"from_torch: the module calls {name} under torchax, and not under PyTorch")
        difference = _difference(array, expected[Label(kind, name)])
        rounding = _difference(nearby[Label(kind, name)], expected[Label(kind, name)])
        if not difference <= _TOLERANCE[array.dtype.itemsize] + 30 * rounding:
            raise UserError(
                f"from_torch: {kind} {name}{' ' if name else ''}differs from PyTorch's by {difference:.1e} "
                "of its largest entry: torchax gives an operator before it another meaning"
            )


def _results_of_torch(source: Source, training: bool, nudge: float) -> dict[Label, Array]:
    """What PyTorch computes on the example, with float weights changed by a fraction of themselves."""
    torch, _ = import_torch()

    def copy(tensor: Any) -> Any:
        copied = tensor.detach().clone()
        if nudge and copied.is_floating_point():
            signs = torch.arange(copied.numel()).remainder(3).sub(1).view(copied.shape)
            copied *= 1 + nudge * signs
        return copied

    copies = {id(tensor): copy(tensor) for _, tensor in named_tensors(source.module)}
    named = {name: copies[id(tensor)] for name, tensor in named_tensors(source.module)}
    leaves = [to_torch(torch, np.asarray(leaf)) for leaf in source.inputs.examples]
    run = run_in_torch(source.module, named, source.inputs.call(leaves), training=training)
    return {
        Label(kind, name): to_array(torch, name, tensor)
        for kind, tensors in (("output", run.outputs), ("feature", run.features), ("buffer", run.tensors))
        for name, tensor in tensors.items()
    }


def _difference(found: Array, expected: Array) -> float:
    """The largest, relative to the largest finite number; infinity for other shapes."""
    if found.shape != expected.shape:
        return float("inf")
    x, y = (np.asarray(array).astype(np.float64) for array in (found, expected))
    with np.errstate(invalid="ignore"):
        apart = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, np.abs(x - y))
    scale = np.max(np.abs(y), initial=np.finfo(np.float32).tiny, where=np.isfinite(y))
    return float(np.nan_to_num(np.max(apart, initial=0.0) / scale, nan=np.inf))
