"""Write a network of a run to a file.

    llfc_jax export RUN [--what=b_aligned] [--format=safetensors|pt|npz|orbax] [--out=PATH]

A network that came from a file (`--config.pair.a` and `b`) goes out in that file's names and layout, for the
program that wrote it to go on with; as `orbax` only if it came as a pytree. Others have our names, such as
params/dense1/kernel.

Task arithmetic, TIES and their kin, of models fine-tuned from one, are other tools' work: mergekit takes
directories of Hugging Face (`--out=DIR/model.safetensors`, beside the config.json of the model that came in),
FusionBench modules of PyTorch, which load a state dict (`--format=pt`).
"""

import sys
from collections.abc import Sequence

from llfc_jax.runtime import interrupts


def main(arguments: Sequence[str]) -> int:
    """Export what the arguments describe; returns the exit code."""
    from llfc_jax.run import commands

    return commands.export(arguments, __doc__)


if __name__ == "__main__":
    interrupts.install()
    sys.exit(main(sys.argv[1:]))
