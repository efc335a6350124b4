"""The block that residual networks are made of (He et al. 2016)."""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn

from llfc_jax.models.layers import ACTIVATIONS, Add, norm_stages
from llfc_jax.models.network import Stage

Steps = list[tuple[str, nn.Module] | Stage]


class Style(NamedTuple):
    """What the convolutions of a network are followed by."""

    norm_name: str
    epsilon: float
    activation_name: str

    def norm(self, name: str) -> list[tuple[str, nn.Module]]:
        """The norm as a list of one stage, or of none."""
        return norm_stages(self.norm_name, name, self.epsilon)

    def activation(self, name: str) -> list[tuple[str, nn.Module]]:
        """The nonlinearity as a list of one stage; `name` has braces where its own name goes."""
        return [(name.format(self.activation_name), ACTIVATIONS[self.activation_name])]


def residual_block(
    name: str, entry: str, convolutions: Sequence[nn.Conv], shortcut: nn.Module | None, style: Style
) -> Steps:
    """relu(branch(x) + shortcut(x)); the branch is convolutions, each normalised, with ReLU between them.

    Args:
        name: prefix of the names of all stages, which end in `add` and the ReLU after it.
        entry: the stage whose output is x.
        convolutions: of the branch, in order.
        shortcut: what brings x to the shape of the branch; a convolution is normalised; `None` for x itself.
        style: the norm and the nonlinearity, which stands where ReLU does above.
    """
    last, source = len(convolutions), entry
    steps: Steps = []
    for index, layer in enumerate(convolutions, start=1):
        steps += [Stage(f"{name}conv{index}", layer, (source,)), *style.norm(f"{name}norm{index}")]
        if index < last:
            steps += style.activation(f"{name}{{}}{index}")
        source = steps[-1][0]
    if shortcut is not None:
        steps += [Stage(f"{name}shortcut", shortcut, (entry,))]
        if isinstance(shortcut, nn.Conv):
            steps += style.norm(f"{name}shortcut_norm")
        entry = steps[-1][0]
    return [*steps, Stage(f"{name}add", Add(), (source, entry)), *style.activation(f"{name}{{}}{last}")]
