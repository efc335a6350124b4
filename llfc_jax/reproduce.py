"""Run a figure or a table of a paper, and print ours beside what was published.

    llfc_jax reproduce NAME [--scale=0.05] [--seeds=3] [--workdir=DIR] [--config.FIELD=VALUE ...]

At the paper's size most take a GPU for minutes to hours. `--scale` shortens the training (below one epoch it
cuts the training data, too), and what a shorter one can't show is said.
"""

import sys
from collections.abc import Sequence

from llfc_jax.runtime import interrupts, pages


def main(arguments: Sequence[str]) -> int:
    """Reproduce what the arguments name; returns the exit code."""
    from llfc_jax.run import commands

    return commands.reproduce(arguments, __doc__)


if __name__ == "__main__":
    pages.ask_for_large()
    interrupts.install()
    sys.exit(main(sys.argv[1:]))
