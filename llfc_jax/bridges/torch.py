"""PyTorch modules as they are: their variables, and pure functions of them in JAX."""

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from llfc_jax.bridges.entries import chosen
from llfc_jax.bridges.inputs import Inputs, read_inputs
from llfc_jax.bridges.modes import Function, Reading, Source, read, read_dropping
from llfc_jax.bridges.state_dict import (
    Alias,
    Layout,
    layout_of,
    named_tensors,
    to_array,
    to_state_dict,
    to_variables,
)
from llfc_jax.bridges.torch_import import import_torch
from llfc_jax.errors import UserError
from llfc_jax.types import Array, Features, PRNGKey

Variables = Mapping[str, Array]
"""Name in the state dict -> array."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TorchNetwork:
    """A PyTorch module that has been read into JAX: see `from_torch`.

    Equal to itself alone, and so are its methods: give them again and nothing is compiled again. No code of
    PyTorch is run by them, but for the conversion of state dicts. JAX prints what it traces: what this prints
    as is short, where all its arrays would take longer than the computation.
    """

    variables: dict[str, Array]
    """Parameters and buffers of the module by their names in its state dict, in PyTorch's layouts; a tensor
    that has several names is one leaf, by the first of them."""
    _layout: Layout
    _inputs: Inputs
    _outputs: Function
    _features: Function
    _training: Function | str
    _dropping: Function | str | None
    """The same with dropout; None where the module has none."""

    def apply(self, variables: Variables, inputs: Any) -> Array:
        """The outputs in evaluation mode.

        Args:
            variables: as `variables`.
            inputs: arrays in the structure of the example's, for a batch of any size.

        Raises:
            UserError: variables or inputs have another structure, shape or kind of numbers.
        """
        return self._outputs(self._inputs, variables, inputs)[0]

    def apply_with_features(self, variables: Variables, inputs: Any) -> tuple[Array, Features]:
        """The outputs in evaluation mode, and what every submodule returns.

        Features are named by the submodule's path, such as `layer1.0.conv1`; those of a submodule that is
        called repeatedly `relu/0`, `relu/1`, and those of one that returns several arrays `lstm[0]`. Arrays
        that aren't floats with one entry for each example are left out.
        """
        outputs, *features = self._features(self._inputs, variables, inputs)
        return outputs, dict(zip(self._features.names[1:], features, strict=True))

    def apply_train(
        self, variables: Variables, inputs: Any, key: PRNGKey | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """The outputs in training mode, and the variables with the buffers updated.

        Args:
            variables: as `variables`.
            inputs: see `apply`.
            key: drives dropout; without one there is none.

        Raises:
            UserError: the module can't be read in training mode.
        """
        keys = () if key is None or self._dropping is None else (key,)
        training = self._dropping if keys else self._training
        if not isinstance(training, Function):
            raise UserError(str(training))
        outputs, *changed = training(self._inputs, variables, inputs, *keys)
        return outputs, {**variables, **dict(zip(training.names[1:], changed, strict=True))}

    def variables_of(self, state_dict: Mapping[str, Any]) -> dict[str, Array]:
        """The variables of another state dict of the same module, such as a second checkpoint's.

        Args:
            state_dict: name -> tensor or array; converted to the module's dtypes, as `load_state_dict` does.
                Of the names of one tensor, one will do.

        Raises:
            UserError: it is another module's: the first name at fault, what is expected there, what is found.
        """
        return to_variables(import_torch()[0], self._layout, state_dict)

    def names(self) -> dict[str, Alias]:
        """All names of parameters and buffers in the state dict -> the variable, and its axes there."""
        of_leaves = {
            name: Alias(name, tuple(range(len(empty.shape)))) for name, empty in self._layout.leaves.items()
        }
        known = {**of_leaves, **self._layout.aliases}
        return {name: known[name] for name in self._layout.names if name in known}

    def state_dict(self, variables: Variables) -> "OrderedDict[str, Any]":
        """The state dict of variables: all names in order, in the module's dtypes, bit for bit.

        Raises:
            UserError: a variable is missing or has another shape.
        """
        return to_state_dict(import_torch()[0], self._layout, variables)


def from_torch(module: Any, example_inputs: Any, *, output: str | int | None = None) -> TorchNetwork:
    """Read a PyTorch module into pure functions of JAX.

    The module is traced through torchax, in evaluation and in training mode, and run by PyTorch on the
    example to compare. What is kept are programs of JAX; no code of PyTorch is run after this. A program is
    made of traces at three batch sizes and holds for all of them, as long as it follows the batch in its
    numbers (shapes, divisors) alone; a module for which this isn't so is kept for the batch size of the
    example. All other axes are those of the example: read the module again for another sequence length or
    image size. The module, its weights and the state of torch are left as they were.

    Args:
        module: an `nn.Module`. What it computes may depend on nothing but its inputs, parameters and buffers.
        example_inputs: a tensor or array, a tuple of arguments, or a mapping of keyword arguments; the
            leading axis of the first array is the batch. Keyword arguments that are no arrays stay as they
            are here.
        output: which entry of a tuple, mapping or dataclass is the logits: its name or position. By default
            the only one, or the one called `logits`.

    Returns:
        The network: `variables`, `apply`, `apply_with_features`, `apply_train`, `variables_of`, `state_dict`.

    Raises:
        UserError: in one line what can't be read, and where: an operator that JAX doesn't have, a branch on
            data, random numbers, a module that writes its own state, outputs of which none is said to be the
            logits, or numbers that differ from PyTorch's.

    Example:
        >>> module = torch.nn.Linear(3, 2)  # doctest: +SKIP
        >>> network = from_torch(module, torch.zeros(1, 3))  # doctest: +SKIP
        >>> network.apply(network.variables, jnp.zeros((5, 3))).shape  # doctest: +SKIP
        (5, 2)
    """
    torch, _ = import_torch()
    if not isinstance(module, torch.nn.Module) or isinstance(module, torch.jit.ScriptModule):
        raise UserError(f"from_torch: expected a torch.nn.Module in Python; found {type(module).__name__}")
    if isinstance(module, torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel):
        module = module.module
    inputs, layout = read_inputs(example_inputs), layout_of(torch, module)
    variables = to_variables(torch, layout, module.state_dict())
    constants = {
        name: to_array(torch, name, tensor)
        for name, tensor in named_tensors(module)
        if name not in variables and name not in layout.aliases
    }
    source = Source(module, layout, inputs, variables, constants)
    evaluation = read(source, training=False)
    logits = chosen(evaluation.outputs(), output, "from_torch: output")
    position = evaluation.position(logits)
    return TorchNetwork(
        variables,
        layout,
        inputs,
        evaluation.function([position]),
        evaluation.function([position, *evaluation.features(inputs.batch_size)]),
        *_training_functions(source, evaluation, logits),
    )


def _training_functions(
    source: Source, evaluation: Reading, logits: str
) -> tuple[Function | str, Function | str | None]:
    """The module in training mode without dropout, and with it; or why it can't be read so."""

    def function(reading: Reading) -> Function:
        return reading.function([reading.position(logits), *reading.changed()])

    training: Function | str
    try:
        training = function(read(source, training=True, known=evaluation))
    except UserError as error:
        training = f"apply_train: {str(error).removeprefix('from_torch: ')}"
        return training, training
    try:
        dropping = read_dropping(source)
        return training, None if dropping is None else function(dropping)
    except UserError as error:
        return training, f"apply_train: dropout: {str(error).removeprefix('from_torch: ')}"
