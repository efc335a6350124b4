"""The four commands, from arguments to exit codes.

JAX takes seconds to import, and wrong flags and --help need none of it: what does is imported last.
"""

import contextlib
import shlex
from collections.abc import Sequence
from pathlib import Path

from llfc_jax.errors import UserError
from llfc_jax.run import configuration, points, reproduction
from llfc_jax.run.published import REPRODUCTIONS
from llfc_jax.runtime import command_line, guard, importing, output, processes
from llfc_jax.storage import files
from llfc_jax.storage.paths import expand


def experiment(arguments: Sequence[str], text: str | None) -> int:
    """`llfc_jax`: the path of the report is the last line printed."""
    return command_line.run(lambda: _experiment(arguments, text))


def compare(arguments: Sequence[str], text: str | None) -> int:
    """`llfc_jax compare`: the path of the report is the last line printed."""
    return command_line.run(lambda: _compare(arguments, text))


def export(arguments: Sequence[str], text: str | None) -> int:
    """`llfc_jax export`: the path of the file is the last line printed."""
    return command_line.run(lambda: _export(arguments, text))


def reproduce(arguments: Sequence[str], text: str | None) -> int:
    """`llfc_jax reproduce`: the path of the report is the last line printed."""
    return command_line.run(lambda: _reproduce(arguments, text))


def _experiment(arguments: Sequence[str], text: str | None) -> None:
    flags, overrides = configuration.split_overrides(arguments)
    parser = command_line.Parser(
        "llfc_jax [--config=NAME] [--workdir=DIR] [--config.FIELD=VALUE ...] [--sweep FIELD=VALUE,VALUE ...]",
        text,
        f"configurations: {', '.join(configuration.names())}\n\n"
        f"fields, with the defaults of configs/default.py:\n{configuration.describe()}",
    )
    parser.add_argument(
        "--config", metavar="NAME", default=configuration.DEFAULT, help="name or file; by default %(default)s"
    )
    parser.add_argument("--workdir", metavar="DIR", help="by default runs/<config.name>")
    parser.add_argument(
        "--sweep",
        metavar="FIELD=VALUE,VALUE",
        action="append",
        default=[],
        help="a run for each value, and each combination with those of other sweeps",
    )
    several = parser.add_argument_group(
        "several processes", "the same command in each; SLURM's tasks find each other by themselves"
    )
    several.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 is to listen")
    several.add_argument(
        "--processes", metavar="N", help="how many; auto: as TPU pods, Open MPI, Kubernetes or SLURM know"
    )
    several.add_argument("--process", metavar="I", help="which of them this one is, from 0")
    found = parser.parse_all(flags)
    place = processes.find_place(found.coordinator, found.processes, found.process)
    if place and not guard.is_inside():
        raise SystemExit(guard.run_again())
    with processes.told_of_errors(place) if place else contextlib.nullcontext():
        config, axes = configuration.load(found.config, overrides), points.parse(found.sweep)
        name = configuration.file_name(config)
        workdir = expand(found.workdir or Path("runs") / name, "--workdir")
        if place:
            with files.writing(workdir):
                output.divert_libraries(workdir / "log.txt")
    with command_line.logs_to(workdir / "log.txt"):
        with importing.without_collection():
            from llfc_jax.reporting import helpers
            from llfc_jax.run import sweep
            from llfc_jax.runtime import compilation

        compilation.avoid_slow_fusions()
        with processes.joined(place) if place else contextlib.nullcontext(), helpers.helped():
            alone = _typed([f"--config={found.config}", *_flags(overrides)])
            output.show(str(sweep.run(config, axes, workdir, _typed(arguments), alone)))


def _compare(arguments: Sequence[str], text: str | None) -> None:
    parser = command_line.Parser("llfc_jax compare RUN1 RUN2 ... --out=DIR", text)
    parser.add_argument("runs", metavar="RUN", nargs="*", help="workdir of a finished run")
    parser.add_argument("--out", metavar="DIR", help="directory of the report")
    found = parser.parse_all(arguments)
    if len(found.runs) < 2:
        raise UserError(f"expected two runs at least; found {', '.join(found.runs) or 'none'}")
    if not found.out:
        raise UserError("--out: expected a directory for the report; found none")
    runs, out = [expand(run, "RUN") for run in found.runs], expand(found.out, "--out")
    with command_line.logs_to(out / "log.txt"):
        with importing.without_collection():
            from llfc_jax.reporting import helpers
            from llfc_jax.run import compare

        with helpers.helped():
            output.show(str(compare.compare(runs, out, _typed(["compare", *arguments]))))


def _export(arguments: Sequence[str], text: str | None) -> None:
    parser = command_line.Parser("llfc_jax export RUN [--what=NETWORK] [--format=FORMAT] ...", text)
    parser.add_argument("runs", metavar="RUN", nargs="*", help="workdir of a run")
    parser.add_argument(
        "--what",
        metavar="NETWORK",
        default="b_aligned",
        help="a, b, b_aligned, merged, ...; by default %(default)s",
    )
    parser.add_argument("--format", default="safetensors", help="by default %(default)s")
    parser.add_argument("--out", metavar="PATH", help="by default RUN/exports/NETWORK.FORMAT")
    found = parser.parse_all(arguments)
    if len(found.runs) != 1:
        raise UserError(f"expected one RUN, the workdir of a run; found {', '.join(found.runs) or 'none'}")
    run = expand(found.runs[0], "RUN")
    by_default = run / "exports" / f"{found.what}.{found.format}"
    out = expand(found.out, "--out") if found.out else by_default
    with command_line.logs_to(run / "log.txt"):
        with importing.without_collection():
            from llfc_jax.run import export

        output.show(str(export.export(run, found.what, found.format, out)))


def _reproduce(arguments: Sequence[str], text: str | None) -> None:
    flags, own = configuration.split_overrides(arguments)
    known = "\n".join(f"  {name:30}{one.paper}: {one.title}" for name, one in REPRODUCTIONS.items())
    parser = command_line.Parser("llfc_jax reproduce NAME [--scale=PART] ...", text, f"names:\n{known}")
    parser.add_argument("names", metavar="NAME", nargs="*", help="of a figure or a table")
    parser.add_argument("--scale", type=float, default=1.0, help="of the length of training; by default 1")
    parser.add_argument("--seeds", type=int, default=1, help="how many runs; by default %(default)s")
    parser.add_argument("--workdir", metavar="DIR", help="by default runs/NAME")
    found = parser.parse_all(flags)
    if len(found.names) != 1:
        names = ", ".join(found.names) or "none"
        raise UserError(f"expected one NAME, of {', '.join(REPRODUCTIONS)}; found {names}")
    (name,) = found.names
    entry, overrides = reproduction.find(name), reproduction.overrides(name, found.scale, found.seeds, own)
    config = configuration.load(entry.config, overrides)
    workdir = expand(found.workdir or Path("runs") / name, "--workdir")
    with command_line.logs_to(workdir / "log.txt"):
        with importing.without_collection():
            from llfc_jax.reporting import helpers, reproduced
            from llfc_jax.run import reproducing
            from llfc_jax.runtime import compilation

        compilation.avoid_slow_fusions()
        alone = _typed([f"--config={entry.config}", *_flags(overrides)])
        with helpers.helped():
            page, record = reproducing.run(name, config, workdir, _typed(["reproduce", *arguments]), alone)
        note = reproduction.note(name, config, found.scale)
        output.show(reproduced.terminal(record, note=note))
        output.show(str(page))


def _flags(overrides: configuration.Overrides) -> list[str]:
    """What sets the fields of a single run."""
    return [
        f"--config.{field}" if value is None else f"--config.{field}={value}"
        for field, value in overrides
        if field != points.REPLICATES
    ]


def _typed(arguments: Sequence[str]) -> str:
    """The command, for the record."""
    return shlex.join(["llfc_jax", *arguments])
