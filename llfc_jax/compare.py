"""Put runs side by side: one report with the same measures of spawned, permuted and unconnected pairs.

    llfc_jax compare RUN1 RUN2 ... --out=DIR

Each RUN is a workdir with a results.json; they must have the same architecture and data set. Runs that differ
in the seed alone are replicates: the report has their means and deviations, and those of each group of them.
"""

import sys
from collections.abc import Sequence

from llfc_jax.runtime import interrupts


def main(arguments: Sequence[str]) -> int:
    """Compare the runs that the arguments name; returns the exit code."""
    from llfc_jax.run import commands

    return commands.compare(arguments, __doc__)


if __name__ == "__main__":
    interrupts.install()
    sys.exit(main(sys.argv[1:]))
