"""What the library may import: itself and what everybody stands on, never the runner or the zoo."""

import ast
from pathlib import Path

import pytest

import llfc_jax

ROOT = Path(llfc_jax.__file__).parent
LIBRARY = {
    *("program", "path", "symmetry", "matching", "measures", "corrections", "results", "reporting"),
    *("bridges", "api", "arguments"),
}
FLOORS = {"errors", "types", "runtime", "storage"}
"""What everybody may stand on; they stand on nothing but each other."""
MODULES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
} - {"llfc_jax"}


def modules_of(rooms):
    found = [path for room in sorted(rooms) for path in (ROOT / room).rglob("*.py")]
    return found + [ROOT / f"{room}.py" for room in sorted(rooms) if (ROOT / f"{room}.py").exists()]


def imported(source):
    """Rooms of this package that a module imports, wherever in it; also those that it names in a string."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module="llfc_jax", names=names):
                yield from (f"llfc_jax.{alias.name}" for alias in names)
            case ast.ImportFrom(module=module, level=level):
                yield module if not level else f"llfc_jax.({'.' * level}{module})"
            case ast.Constant(value=str(text)) if text in MODULES:
                yield text


def rooms(source):
    named = (name.split(".") for name in imported(source))
    return {parts[1] for parts in named if parts[0] == "llfc_jax" and len(parts) > 1}


@pytest.mark.parametrize(
    ("inside", "allowed"),
    [(LIBRARY, LIBRARY | FLOORS), (FLOORS, FLOORS)],
    ids=["library", "floors"],
)
def test_no_room_looks_into_those_above_it(inside, allowed):
    modules = modules_of(inside)
    assert {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in modules} == inside
    strays = {
        str(path.relative_to(ROOT)): sorted(stray)
        for path in modules
        if (stray := rooms(path.read_text()) - allowed)
    }
    assert strays == {}


@pytest.mark.parametrize(
    "source",
    [
        "import llfc_jax.models",
        "from llfc_jax import models",
        "from llfc_jax.models.layers import ReLU",
        "def f():\n    from llfc_jax.models import MODELS",
        "importlib.import_module('llfc_jax.models.layers')",
    ],
)
def test_an_import_is_seen_however_it_is_written(source):
    assert rooms(source) == {"models"}
