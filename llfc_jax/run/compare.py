"""Several runs in one report."""

from collections.abc import Sequence
from pathlib import Path

from llfc_jax.errors import UserError
from llfc_jax.report import contrast
from llfc_jax.run import experiment, workdir
from llfc_jax.storage import files


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
    named = zip(_names(runs), runs, strict=True)
    combined = contrast.combine({name: experiment.read_results(run) for name, run in named})
    record = combined["config"] | {"runs": [str(run.resolve()) for run in runs]}
    with workdir.claimed(out, record, flag="--out"):
        with files.writing(out):
            files.write_json(out / workdir.RESULTS, combined | {"config": record, "command": command})
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
