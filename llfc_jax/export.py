r"""Write a network of a run to a file.

    python -m llfc_jax.export RUN [--what=b_aligned] [--format=safetensors|npz|pt|orbax] [--out=PATH]

A network that came from a file (`--config.pair.a` and `b`) goes out in that file's names and layout, for the
program that wrote it to go on with; as `orbax` only if it came as a pytree. Others have our names, such as
params/dense1/kernel.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from llfc_jax.errors import UserError
from llfc_jax.runtime import command_line

_WHAT = flags.DEFINE_string("what", "b_aligned", "Which network: a, b, b_aligned, merged, ...")
_FORMAT = flags.DEFINE_enum(
    "format", "safetensors", ["safetensors", "npz", "pt", "orbax"], "Format of the file."
)
_OUT = flags.DEFINE_string("out", None, "Where to; by default RUN/exports/WHAT.FORMAT.")


def main(argv: Sequence[str]) -> None:
    """Export what the flags describe; the path of the file is the last line printed."""
    if len(argv) != 2:
        raise UserError(f"expected one RUN, the workdir of a run; found {', '.join(argv[1:]) or 'none'}")
    run = Path(argv[1])
    out = Path(_OUT.value) if _OUT.value else run / "exports" / f"{_WHAT.value}.{_FORMAT.value}"
    with command_line.logs_to(run / "log.txt"):
        print(export(run, _WHAT.value, _FORMAT.value, out))


def export(run: Path, what: str, format: str, out: Path) -> Path:
    """Write the network `what` of a run to `out`, unless it is there already.

    Raises:
        UserError: there is no such run or network, its checkpoint is damaged, or `out` is named as another
            format, holds something else, or can't be written.
    """
    from llfc_jax.interchange import formats, source_arrays
    from llfc_jax.run.experiment import CHECKPOINTS
    from llfc_jax.storage import (
        checkpoint,  # JAX takes seconds to import: bad flags and --help need none of it
    )

    directory = run / CHECKPOINTS
    known = sorted(path.name for path in directory.glob("*") if checkpoint.steps(path))
    if what not in known:
        raise UserError(
            f"--what={what}: expected one of the networks in {directory}: {', '.join(known) or 'none'}"
        )
    if format != "orbax" and formats.FORMATS.get(out.suffix) != format:
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


if __name__ == "__main__":
    with command_line.one_line_errors():
        app.run(main, argv=sys.argv, flags_parser=command_line.parse_flags)
