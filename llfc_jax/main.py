"""Train two networks, walk the straight line between them, and see how linear their losses and features are.

    llfc_jax --config=digits_mlp [--workdir=DIR] [--config.FIELD=VALUE ...]

works from any directory, as `python -m llfc_jax.main` does; --config=mine.py is a file of your own, which
changes what `llfc_jax.configs.default.get_config()` returns. Fields are changed on the command line, too:
    --config.train.epochs=2  --config.model.width=4  --config.seed=1  --config.data.data_dir=DIR
Many runs of one command, each in a workdir beneath, and what they say together:
    --config.replicates=5  --sweep train.spawn_epochs=0,0.5,1,2  --sweep "model.hidden=(64,),(128, 64)"

The workdir (by default runs/<name of the configuration>) receives checkpoints, results.json, figures and
report.html. Running the same command again goes on where the last run stopped. Compiled programs are kept
beside the workdir, in .jax_cache. `llfc_jax compare` and `llfc_jax export` go on from finished runs;
`llfc_jax reproduce` runs the figures and tables of papers.
"""

import sys
from collections.abc import Sequence

from llfc_jax.runtime import interrupts, pages


def main(arguments: Sequence[str]) -> int:
    """Run the experiment that the arguments describe; returns the exit code."""
    from llfc_jax.run import commands  # which takes longer to import than Ctrl-C may wait

    return commands.experiment(arguments, __doc__)


if __name__ == "__main__":
    pages.ask_for_large()
    interrupts.install()
    sys.exit(main(sys.argv[1:]))
