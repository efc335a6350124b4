"""The block that residual networks are made of (He et al. 2016)."""

from collections.abc import Sequence

import flax.linen as nn

from llfc_jax.models.layers import Add, ReLU, norm_stages
from llfc_jax.models.network import Stage

Steps = list[tuple[str, nn.Module] | Stage]


def residual_block(
    name: str, entry: str, convolutions: Sequence[nn.Conv], shortcut: nn.Module | None, norm: str
) -> Steps:
    """relu(branch(x) + shortcut(x)); the branch is convolutions, each normalised, with ReLU between them.

    Args:
        name: prefix of the names of all stages, which end in `add` and the ReLU after it.
        entry: the stage whose output is x.
        convolutions: of the branch, in order.
        shortcut: what brings x to the shape of the branch; a convolution is normalised; `None` for x itself.
        norm: `none`, `batch` or `layer`.
    """
    last, source = len(convolutions), entry
    steps: Steps = []
    for index, layer in enumerate(convolutions, start=1):
        steps += [Stage(f"{name}conv{index}", layer, (source,)), *norm_stages(norm, f"{name}norm{index}")]
        if index < last:
            steps += [(f"{name}relu{index}", ReLU())]
        source = steps[-1][0]
    if shortcut is not None:
        steps += [Stage(f"{name}shortcut", shortcut, (entry,))]
        if isinstance(shortcut, nn.Conv):
            steps += norm_stages(norm, f"{name}shortcut_norm")
        entry = steps[-1][0]
    return [*steps, Stage(f"{name}add", Add(), (source, entry)), (f"{name}relu{last}", ReLU())]
