"""Configurations: found by name or file, changed field by field, described from their own comments.

    --config=digits_mlp                one of `llfc_jax.configs`, from any directory
    --config=configs/digits_mlp.py     the same, and also a file in a checkout
    --config=mine.py                   a file of one's own, with a `get_config()`
    --config.train.epochs=2            a field of it

Imports no JAX, so that mistakes in names are told at once.
"""

import ast
import copy
import difflib
import functools
import importlib.util
import inspect
import io
import pkgutil
import re
import tokenize
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from llfc_jax import configs
from llfc_jax.configs import default
from llfc_jax.errors import UserError, first_line
from llfc_jax.run.rules import shown
from llfc_jax.storage.paths import expand, is_in_file

DEFAULT = "digits_mlp"

LONGEST_NAME = 255
"""Bytes, on every file system."""

Overrides = list[tuple[str, str | None]]
"""Dotted field and its value as written; None where there is none, as after a switch."""


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], Overrides]:
    """Take `--config.FIELD=VALUE` and `--config.FIELD VALUE` out of the arguments.

    Returns:
        The other arguments, and the fields.

    Example:
        >>> split_overrides(["--workdir=x", "--config.seed=1", "--config.data.augment", "--config=test"])
        (['--workdir=x', '--config=test'], [('seed', '1'), ('data.augment', None)])
    """
    rest: list[str] = []
    overrides: Overrides = []
    remaining = list(arguments)
    while remaining:
        name, equals, value = (argument := remaining.pop(0)).partition("=")
        if not name.startswith("--config."):
            rest.append(argument)
        elif equals:
            overrides.append((name.removeprefix("--config."), value))
        else:
            follows = bool(remaining) and not remaining[0].startswith("--")
            overrides.append((name.removeprefix("--config."), remaining.pop(0) if follows else None))
    return rest, overrides


def load(name: str, overrides: Overrides) -> ConfigDict:
    """The configuration of that name or file, with some fields changed.

    Raises:
        UserError: there is none, its file is at fault, or a field or value doesn't exist.
    """
    config = _get_config(name)
    before = config.model.name if "model" in config else None
    for field, text in overrides:
        override(config, field, text)
    if before != (after := _model_name(config)) and is_in_file(after):
        _forget_options(config, {field for field, _ in overrides})
    return config


def names() -> list[str]:
    """The configurations that come with the package."""
    return sorted(module.name for module in pkgutil.iter_modules(configs.__path__))


def file_name(config: ConfigDict) -> str:
    """`config.name`, which is that of a directory.

    Raises:
        UserError: it is none that one directory can have.
    """
    name = config.get("name")
    if (
        not isinstance(name, str)
        or not name.strip(". ")
        or not name.isprintable()
        or "/" in name
        or len(name.encode()) > LONGEST_NAME
    ):
        raise UserError(f"config.name: expected the name of a directory; found {shown(name)}")
    return name


def override(config: ConfigDict, field: str, text: str | None) -> None:
    """Set one field to a value as written on the command line.

    A field whose default is None, () or empty goes back to it by `None`, `()` or nothing.

    Raises:
        UserError: no such field, or the text is no such value.

    Example:
        >>> config = default.get_config()
        >>> override(config, "model.hidden", "(64, 32)"); override(config, "measures", "lmc,llfc")
        >>> config.model.hidden, config.measures
        ((64, 32), ('lmc', 'llfc'))
        >>> override(config, "model.hidden", "None"); print(config.model.hidden)
        None
    """
    if field.startswith(_ARGUMENTS):
        _set_argument(config, field, text)
        return
    if field.startswith(_ONLY):
        _set_own(config, field, text)
        return
    _set(config, field, text, field)


def of_network(config: ConfigDict, name: str) -> ConfigDict:
    """What one network is trained by: the configuration with the fields that `config.only` has for it.

    Example:
        >>> config = load("test", [("only.b.opt.weight_decay", "0.5")])
        >>> [of_network(config, name).opt.weight_decay for name in "ab"]
        [0.0001, 0.5]
    """
    single = copy.deepcopy(config)
    for field, value in fields(config.only.get(name, ConfigDict())):
        section, last = _find(single, field)
        section[last] = value
    return single


def _set(config: ConfigDict, field: str, text: str | None, called: str) -> None:
    section, name = _find(config, field)
    kind = section.get_type(name)
    try:
        section[name] = _value(text, kind, defaults().get(field))
    except (ValueError, TypeError, OverflowError) as error:
        found = "none" if text is None else shown(text)
        raise UserError(
            f"config.{called}: expected {_KINDS.get(kind, kind.__name__)}; found {found}"
        ) from error


def fields(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of every field."""
    for name, value in config.items():
        if f"{prefix}{name}." in _OPEN:  # anybody's
            continue
        if isinstance(value, ConfigDict):
            yield from fields(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


@functools.cache
def defaults() -> Mapping[str, Any]:
    """Dotted name and value of every field of `default.py`."""
    return dict(fields(default.get_config()))


def describe() -> str:
    """Every field with its default and its comment, in the order of `default.py`."""
    presets, lines = defaults(), []
    for field, comments in _comments().items():
        if (rest := _OPEN.get(f"{field}.")) is not None:
            lines += [f"  --config.{field}.{rest}=VALUE", *(f"        {comment}" for comment in comments)]
        elif field in presets:
            value = ",".join(presets[field]) if field == "measures" else presets[field]
            lines.append(f"  --config.{field}={value}")
            lines += [f"        {comment}" for comment in comments]
        else:
            lines.append("\n" + "".join(f"  {field}: {comment}" for comment in comments))
    return "\n".join(lines)


_ARGUMENTS, _ONLY = "model.args.", "only."

_OPEN = {_ARGUMENTS: "ARGUMENT", _ONLY: "NETWORK.FIELD"}
"""Sections whose fields nobody knows in advance -> what they are called."""

_ASSIGNMENT = re.compile(r" *config\.([\w.]+) = ")

_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a name",
    tuple: "numbers or names in parentheses",
}


def _get_config(name: str) -> ConfigDict:
    path = _path(name)
    try:
        specification = importlib.util.spec_from_file_location(f"llfc_jax_config_{path.stem}", path)
        module = importlib.util.module_from_spec(specification)  # type: ignore[arg-type]
        specification.loader.exec_module(module)  # type: ignore[union-attr]
        config = module.get_config()
    except SystemExit as stop:
        raise UserError(f"--config={name}: it ends the process, by sys.exit({stop.code!r})") from stop
    except Exception as error:  # whatever the user's file raises
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"--config={name}: {reason}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"--config={name}: expected get_config to return a ConfigDict; found {type(config).__name__}"
        )
    return config


def _path(name: str) -> Path:
    """The file of one's own, else the one in the package that is called so."""
    written = expand(name, "--config")
    if written.is_file():
        return written
    in_package = written.with_suffix("") if written.suffix == ".py" else written
    if in_package.name in names() and in_package.parent in (Path(), Path("configs")):
        return Path(configs.__path__[0]) / f"{in_package.name}.py"
    raise UserError(f"--config: no file {name}; expected one of {', '.join(names())}, or a file of your own")


def _set_argument(config: ConfigDict, field: str, text: str | None) -> None:
    """An argument of a network of one's own, which no field knows: a literal of Python's, else a word."""
    name = field.removeprefix(_ARGUMENTS)
    if not name.isidentifier():
        raise UserError(f"config.{field}: expected the name of an argument; found {name!r}")
    section = config.model.args if "model" in config and "args" in config.model else None
    if section is None:
        raise UserError(f"config.{field}: expected the fields of configs/default.py; found no model.args")
    if name in section:
        del section[name]  # a ConfigDict remembers types
    section[name] = True if text is None else _truth(text) if text in ("true", "false") else _literal(text)


def _set_own(config: ConfigDict, field: str, text: str | None) -> None:
    """A field of a single network, of the type of that which it replaces."""
    network, _, own = field.removeprefix(_ONLY).partition(".")
    if "only" not in config:
        raise UserError(f"config.{field}: expected the fields of configs/default.py; found no only")
    single = copy.deepcopy(config)
    _set(single, own, text, field)
    found, name = _find(single, own)
    section = config.only
    for key in (network, *own.split(".")[:-1]):
        if key not in section:
            section[key] = ConfigDict()
        section = section[key]
    section[name] = found[name]


def _model_name(config: ConfigDict) -> str:
    return str(config.model.name) if "model" in config else ""


def _forget_options(config: ConfigDict, written: Container[str]) -> None:
    """Take back what a configuration says of its own model where the command line names a file instead."""
    for name, preset in default.get_config().model.items():
        if name not in ("name", "args") and f"model.{name}" not in written:
            config.model[name] = preset


def _find(config: ConfigDict, field: str) -> tuple[ConfigDict, str]:
    """The section that holds a field, and its name there."""
    *sections, name = field.split(".")
    for depth, key in enumerate([*sections, name]):
        if not isinstance(config, ConfigDict) or key not in config:
            choices = sorted(config) if isinstance(config, ConfigDict) else []
            close = difflib.get_close_matches(key, choices, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            parent = ".".join(["config", *sections[:depth]])
            raise UserError(
                f"{parent} has no field {key!r}: {hint}expected one of {', '.join(choices) or 'nothing'}"
            )
        if depth < len(sections):
            config = config[key]
    if isinstance(config[name], ConfigDict):
        raise UserError(f"config.{field}: expected one of its fields: {', '.join(sorted(config[name]))}")
    return config, name


def _value(text: str | None, kind: type, by_default: Any) -> Any:
    if text is None:
        if kind is not bool:
            raise ValueError
        return True
    is_list = isinstance(by_default, tuple) or kind is tuple
    if by_default in (None, (), "") and text in ("None", "", "()"):
        return () if is_list and text == "()" else by_default
    return _READERS.get(kind, _literal)(text)


def _truth(text: str) -> bool:
    if (lower := text.lower()) not in ("true", "1", "false", "0"):
        raise ValueError
    return lower in ("true", "1")


def _several(text: str) -> tuple[Any, ...]:
    """(1, 2), 1,2, ('a', 'b') or a,b; one alone is one of several."""
    value = _literal(text)
    if isinstance(value, str):
        return tuple(name for one in value.strip("()[]").split(",") if (name := one.strip(" '\"")))
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text


_READERS: dict[type, Callable[[str], Any]] = {bool: _truth, int: int, float: float, str: str, tuple: _several}


def _comments() -> dict[str, list[str]]:
    """Field or section -> the comments behind its lines in `default.py`, with the element each is about."""
    found: dict[str, list[str]] = {}
    field = ""
    above: list[str] = []  # comments on lines of their own are about what comes next
    for token in tokenize.generate_tokens(io.StringIO(inspect.getsource(default)).readline):
        if token.type == tokenize.NAME and (assigned := _ASSIGNMENT.match(token.line)):
            field = assigned[1]
            found.setdefault(field, above)
            above = [] if found[field] is above else above
        if token.type == tokenize.COMMENT:
            comment, code = token.string.lstrip("# "), token.line.partition("#")[0].strip()
            if not code:
                above.append(comment)
            elif code.endswith(","):
                element = code.strip(',"')
                found[field].append(f"{element}: {comment}")
            else:
                found[field].append(comment)
    return found
