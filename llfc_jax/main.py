r"""Train two networks, walk the straight line between them, and see how linear their losses and features are.

    python -m llfc_jax.main --config=configs/digits_mlp.py [--workdir=DIR] [--config.FIELD=VALUE ...]

Configurations are in configs/; configs/default.py lists every field. For example:
    --config.train.epochs=2  --config.model.width=4  --config.seed=1  --config.data.data_dir=DIR

The workdir (by default runs/<name of the configuration>) receives checkpoints, results.json, figures and
report.html. Running the same command again goes on where the last run stopped. Compiled programs are kept
beside the workdir, in .jax_cache.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from llfc_jax.errors import UserError
from llfc_jax.runtime import command_line

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, f"A file with get_config(); by default {command_line.DEFAULT_CONFIG}."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where everything goes; by default runs/<config.name>.")


def main(argv: Sequence[str]) -> None:
    """Run the experiment that the flags describe; the path of its report is the last line printed."""
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}: fields are set as --config.FIELD=VALUE")
    config = _CONFIG.value
    if getattr(config, "name", None) is None:
        raise UserError("config.name: expected the fields of configs/default.py; found none of this name")
    command_line.split_names(config)
    workdir = Path(_WORKDIR.value or Path("runs") / config.name)
    command = shlex.join(["python", "-m", "llfc_jax.main", *sys.argv[1:]])
    with command_line.logs_to(workdir / "log.txt"):
        # Imported here because JAX takes seconds: bad flags and --help need none of it.
        from llfc_jax.run import experiment
        from llfc_jax.runtime import compilation

        compilation.avoid_slow_fusions()
        compilation.keep_programs(workdir.parent / compilation.CACHE)
        print(experiment.run(config, workdir, command))


if __name__ == "__main__":
    with command_line.one_line_errors():
        command_line.name_config(sys.argv)
        app.run(main, flags_parser=command_line.parse_flags)
