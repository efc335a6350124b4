"""A network of a run, written to a file."""

from pathlib import Path

from llfc_jax.errors import UserError
from llfc_jax.interchange import formats, source_arrays
from llfc_jax.run.workdir import CHECKPOINTS
from llfc_jax.storage import checkpoint


def export(run: Path, what: str, format: str, out: Path) -> Path:
    """Write the network `what` of a run to `out`, unless it is there already.

    Raises:
        UserError: there is no such run, network or format, its checkpoint is damaged, or `out` is named as
            another format, holds something else, or can't be written.
    """
    written = {name: one.suffixes for name, one in formats.FORMATS.items() if one.write is not None}
    if format not in written:
        raise UserError(f"--format={format}: expected one of {', '.join(written)}")
    directory = run / CHECKPOINTS
    known = sorted(path.name for path in directory.glob("*") if checkpoint.steps(path))
    if what not in known:
        raise UserError(
            f"--what={what}: expected one of the networks in {directory}: {', '.join(known) or 'none'}"
        )
    if written[format] and out.suffix not in written[format]:
        raise UserError(f"--out={out}: expected a name ending in .{format}, as --format={format}")
    found = checkpoint.restore(directory / what)
    arrays = source_arrays(found.variables, found.metadata.get("source"))
    if format == "orbax" and not all("/" in name for name in arrays):
        arrays = source_arrays(found.variables, None)
    if not out.exists():
        formats.write(out, arrays, format)
    elif not formats.holds(out, arrays):
        raise UserError(f"--out={out} exists and holds something else; choose another --out, or delete it")
    return out
