r"""Put runs side by side: one report with the same measures of spawned, permuted and unconnected pairs.

    python -m llfc_jax.compare RUN1 RUN2 ... --out=DIR

Each RUN is a workdir with a results.json; they must have the same architecture and data set.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from llfc_jax.errors import UserError
from llfc_jax.runtime import command_line


def main(argv: Sequence[str]) -> None:
    """Compare the runs that the arguments name; the path of the report is the last line printed."""
    if len(argv) < 3:
        raise UserError(f"expected two runs at least; found {', '.join(argv[1:]) or 'none'}")
    if not flags.FLAGS.out:
        raise UserError("--out: expected a directory for the report; found none")
    command = shlex.join(["python", "-m", "llfc_jax.compare", *sys.argv[1:]])
    with command_line.logs_to(Path(flags.FLAGS.out) / "log.txt"):
        print(compare([Path(run) for run in argv[1:]], Path(flags.FLAGS.out), command))


def compare(runs: Sequence[Path], out: Path, command: str) -> Path:
    """Write the combined `results.json` of several runs, and a report of it.

    Args:
        runs: workdirs with a `results.json`.
        out: the directory of the report; not that of a run or of another comparison.
        command: what the user typed, for the record.

    Returns:
        The report page.

    Raises:
        UserError: a run is named twice, one can't be read, or they don't fit each other.
    """
    from llfc_jax.report import contrast
    from llfc_jax.run import experiment, workdir  # JAX takes seconds to import: --help needs none of it
    from llfc_jax.storage import files

    named = zip(_names(runs), runs, strict=True)
    combined = contrast.combine({name: experiment.read_results(run) for name, run in named})
    workdir.claim(out, {"name": combined["config"]["name"], "runs": [str(run.resolve()) for run in runs]})
    with files.writing(out):
        files.write_json(out / workdir.RESULTS, combined | {"command": command})
    return experiment.write_report(out)


def _names(runs: Sequence[Path]) -> list[str]:
    """The ends of the paths, as long as it takes to tell them apart.

    Example:
        >>> _names([Path("/runs/mlp"), Path("/runs/vgg")]), _names([Path("/mlp/seed0"), Path("/vgg/seed0")])
        (['mlp', 'vgg'], ['mlp:seed0', 'vgg:seed0'])
    """
    parts = [run.resolve().parts for run in runs]
    for length in range(1, max(map(len, parts)) + 1):
        names = [":".join(each[-length:]) for each in parts]
        if len({*names}) == len(names):
            return names
    raise UserError(f"expected different runs; found {', '.join(map(str, runs))}")


if __name__ == "__main__":
    flags.DEFINE_string("out", None, "Directory of the report.")
    with command_line.one_line_errors():
        app.run(main, argv=sys.argv, flags_parser=command_line.parse_flags)
