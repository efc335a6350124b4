"""A report on disk: results, figures, tables, a page; whole or as it was."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from llfc_jax.errors import UserError
from llfc_jax.reporting import drawing, page, tidy
from llfc_jax.reporting.drawing import Drawing
from llfc_jax.reporting.reading import Results
from llfc_jax.results import check
from llfc_jax.storage import files

RESULTS, PAGE = "results.json", "report.html"


def read_results(directory: Path) -> Results:
    """The contents of a directory's `results.json`.

    Raises:
        UserError: there is none, it can't be read, another release wrote it, or an entry is not one.
    """
    results_file = directory / RESULTS
    if not results_file.exists():
        raise UserError(f"{directory}: expected the workdir of a finished run; found no {RESULTS}")
    found = files.read_json(results_file)
    try:
        return check(found)
    except UserError as error:
        raise UserError(f"{results_file}: {error}: delete it to make it again") from error


def write_report(
    directory: Path, watched: Callable[[Iterable[Drawing]], Iterable[Drawing]] = lambda drawings: drawings
) -> Path:
    """Figures, tables and page from `results.json` alone, unless made from it before.

    Args:
        directory: has the results, and gets the rest.
        watched: passes the figures on as they are drawn, such as under a progress bar.

    Returns:
        The page.

    Raises:
        UserError: the results can't be read, or the report can't be written.
    """
    results = read_results(directory)
    digest = hashlib.sha256((directory / RESULTS).read_bytes()).hexdigest()
    where, made_from = directory / PAGE, f"<!-- made from {RESULTS}, SHA-256 {digest} -->\n"
    if not (where.exists() and where.read_bytes().endswith(made_from.encode())):
        files.check_writable(directory)
        drawings = list(watched(drawing.draw(results)))
        with files.writing(directory):
            drawing.write(drawings, directory / "figures")
            tidy.write_csv(results, directory)
            files.write_text(where, page.render(results, drawings) + made_from)
    return where
