"""Several runs in one report."""

from collections.abc import Sequence
from pathlib import Path

from llfc_jax.errors import UserError
from llfc_jax.reporting import contrast, groups, writing
from llfc_jax.reporting.reading import Results
from llfc_jax.run import experiment, workdir
from llfc_jax.storage import files


def compare(runs: Sequence[Path], out: Path, command: str) -> Path:
    """Write the combined `results.json` of several runs, and a report of it.

    Where some differ in the seed alone, it is an overview as of replicates; else they stand side by side.

    Args:
        runs: workdirs with a `results.json`.
        out: the directory of the report; not that of a run or of another comparison.
        command: what the user typed, for the record.

    Returns:
        The report page.

    Raises:
        UserError: a run is named twice, one can't be read, or they don't fit each other.
    """
    found = {name: _read(run) for name, run in zip(_names(runs), runs, strict=True)}
    together = groups.overview if groups.are_replicates(found) else contrast.combine
    combined = together(found)
    record = combined["config"] | {"runs": [str(run.resolve()) for run in runs]}
    with workdir.claimed(out, record, flag="--out"):
        with files.writing(out):
            files.write_json(out / workdir.RESULTS, combined | {"config": record, "command": command})
        return experiment.write_report(out)


def _read(run: Path) -> Results:
    """The results of one run.

    Raises:
        UserError: it is none.
    """
    results = writing.read_results(run)
    if "groups" in results:
        raise UserError(f"{run}: expected the workdir of a run; found that of many, which lie beneath it")
    return results


def _names(runs: Sequence[Path]) -> list[str]:
    """The parts of the paths that tell them apart: the last ones, or what comes before where those are alike.

    Example:
        >>> _names([Path("/runs/mlp"), Path("/runs/vgg")]), _names([Path("/seed0/mlp"), Path("/seed1/mlp")])
        (['mlp', 'vgg'], ['seed0', 'seed1'])
        >>> _names([Path("/runs/mlp"), Path("/old/runs/mlp"), Path("/old/runs/vgg")])
        ['/:runs:mlp', 'old:runs:mlp', 'old:runs:vgg']
    """
    parts = [run.resolve().parts for run in runs]
    for length in range(1, max(map(len, parts)) + 1):
        ends = [each[-length:] for each in parts]
        if len({*ends}) == len(ends):
            telling = [":".join(each[: 1 if _ends_alike(ends) else length]) for each in ends]
            return telling if len({*telling}) == len(telling) else [":".join(each) for each in ends]
    raise UserError(f"expected different runs; found {', '.join(map(str, runs))}")


def _ends_alike(ends: Sequence[tuple[str, ...]]) -> bool:
    """Whether all that follows the first part is the same."""
    return len({each[1:] for each in ends}) == 1
