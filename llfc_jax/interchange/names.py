"""What the names in a file say: which arrays are of one layer, and what of its order and structure.

A name is a path of components: `layer1.0.conv1.weight` as `params/Conv_0/kernel`. The last says what the
array is to its layer, its *role*; the others are the layer's *module*.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cache

Module = tuple[str, ...]

ALIASES = {"w": "kernel", "b": "bias", "offset": "bias", "beta": "bias", "gamma": "scale"} | {
    "moving_mean": "mean",
    "moving_variance": "var",
}
"""Roles by other names: of Haiku and Keras."""

ROLES = frozenset({"kernel", "weight", "bias", "scale", "mean", "var", "running_mean", "running_var"})
"""The arrays that make a layer; what has none of them is no layer."""

_PLURALS = {"weights": "kernel", "biases": "bias"}

_WRITTEN = "|".join(sorted({*ROLES, *ALIASES, *_PLURALS}, key=len, reverse=True))

_JOINED = re.compile(rf"(.+?)_({_WRITTEN})|({_WRITTEN})_?(\d*)", re.IGNORECASE)
"""A layer and a role in one word: `fc1_weight`, `W1`."""

_OPTIMIZERS = re.compile(
    r"opt|optim|optimi[sz]ers?|opt(im(izer)?)?_?states?|optimizer_states|exp_avg(_sq)?|mu|nu|trace"
)
"""Components under which arrays of the shapes of weights are none."""

_AVERAGES = re.compile(r"(^|_)(ema|swa|avg|averaged?|polyak)(_|$)|^(ema|swa)|(ema|swa)$", re.IGNORECASE)

ASIDE = re.compile(
    r"crit|criterion|loss|metrics?|acc|accuracy|(train|val|test)_(acc|loss|metrics?)", re.IGNORECASE
)
"""Modules of a training script that are no layers of the network, though they may hold a `weight`."""

OTHER_NORM = re.compile(r"(group|instance|rms)_?norm|[gi]n\d*(_|$)", re.IGNORECASE)
"""Modules that have the arrays of a LayerNorm and are none."""

SHORTCUT = re.compile(r"shortcut|downsample|skip|proj", re.IGNORECASE)
"""What nobody calls a layer that isn't in a shortcut, where there are shortcuts."""

_WORDS = tuple(
    words.split()
    for words in (
        "zero one two three four five six seven eight nine ten",
        "zeroth first second third fourth fifth sixth seventh eighth ninth tenth",
        " ".join("abcdefghijklmnopqrstuvwxyz"),
        "alpha beta gamma delta epsilon zeta eta theta iota kappa",
        "early middle late",
        "earlier later",
        "lower middle upper",
        "input hidden output",
        "in mid out",
        "begin mid end",
        "start mid end",
    )
)
"""Tokens whose order is known, though they are no numbers."""


def parts(name: str) -> Module:
    """The components of a name, between slashes or dots, or as `jax.tree_util.keystr` writes them.

    Example:
        >>> parts("fc1.weight"), parts("['params']['fc'][0].kernel"), parts("fc1/kernel:0")
        (('fc1', 'weight'), ('params', 'fc', '0', 'kernel'), ('fc1', 'kernel'))
    """
    return tuple(part for part in re.split(r"[/.\[\]'\"]+", re.sub(r":\d+$", "", name)) if part)


def locate(name: str) -> tuple[Module, str]:
    """The module and the role of an array.

    Running statistics are of the module that their parameters are of, whatever collection they are in.

    Example:
        >>> locate("layer1.0.bn1.running_var"), locate("batch_stats/Norm_0/var"), locate("fc1/kernel/value")
        ((('layer1', '0', 'bn1'), 'running_var'), (('params', 'Norm_0'), 'var'), (('fc1',), 'kernel'))
    """
    path = [part for part in parts(name) if part != "~"] or [name]
    if path[-1] in ("value", "raw_value") and len(path) > 1:  # of NNX
        path.pop()
    if path[-1] == "average" and path[-2:-1] in (["mean_ema"], ["var_ema"]):  # of Haiku
        path[-2:] = [path[-2].removesuffix("_ema")]
        path = ["params" if part == "state" else part for part in path]
    if "batch_stats" in path:
        at = path.index("batch_stats")
        start = at - 1 if at and re.fullmatch(r"(model_|mutable_|net_)?state|mutables?", path[at - 1]) else at
        path[start : at + 1] = ["params"]
    role = ALIASES.get(path[-1].lower(), path[-1])
    return tuple(path[:-1]), role


def modules(names: Iterable[str]) -> dict[Module, dict[str, str]]:
    """Module -> role -> name, in the order of the names.

    Only where no name ends in a role, words are taken apart: much that is no layer ends in `_scale`.

    Example:
        >>> modules(["fc1_weight", "fc1_bias"]), modules(["W1", "b1"])
        ({('fc1',): {'weight': 'fc1_weight', 'bias': 'fc1_bias'}}, {('1',): {'kernel': 'W1', 'bias': 'b1'}})
    """
    located = {name: locate(name) for name in names}
    if not any(role in ROLES for _, role in located.values()):
        located = {name: _taken_apart(*where) for name, where in located.items()}
    found: dict[Module, dict[str, str]] = defaultdict(dict)
    for name, (module, role) in located.items():
        found[module].setdefault(role, name)
    return dict(found)


def _taken_apart(module: Module, word: str) -> tuple[Module, str]:
    """The same where the last component is both the end of the module and the role."""
    if (match := _JOINED.fullmatch(word)) is None:
        return module, word
    layer, role, other, number = match.groups()
    role = (role or other).lower()
    rest = layer or number
    return (*module, rest) if rest else module, {**ALIASES, **_PLURALS}.get(role, role)


def is_of_optimizer(module: Module) -> bool:
    """Whether arrays there are the state of an optimizer."""
    return any(_OPTIMIZERS.fullmatch(part) for part in module)


def is_average(entry: Module) -> bool:
    """Whether a network there is a running average of another."""
    return any(_AVERAGES.search(part) for part in entry)


@cache
def numbered(one: Module, other: Module) -> int | None:
    """-1 where numbers in their names put `one` before `other`, 1 where after, None where they don't say.

    Names are compared where they first differ; they are numbered there if they differ in numbers alone.

    Example:
        >>> numbered(("block_2", "conv"), ("block_10", "bn")), numbered(("fc",), ("fc_1",))
        (-1, -1)
        >>> numbered(("stem", "bn"), ("block_1", "bn"))
    """
    differing = next(((a, b) for a, b in zip(one, other, strict=False) if a != b), None)
    if differing is None:
        return None
    (text, numbers), (other_text, other_numbers) = map(_split, differing)
    if text == other_text:
        return -1 if numbers < other_numbers else 1
    first, second = (part.rstrip("#").rstrip("_-") for part in (text, other_text))
    if first == second and bool(numbers) != bool(other_numbers):  # linear, linear_1, as Haiku numbers them
        return -1 if not numbers else 1
    return None


def spelled(one: Module, other: Module) -> int | None:
    """The same of numbers in words, and of letters: `mid_one` before `mid_two`.

    Example:
        >>> spelled(("second",), ("first",)), spelled(("left",), ("right",))
        (1, None)
    """
    differing = next(((a, b) for a, b in zip(one, other, strict=False) if a != b), None)
    if differing is None:
        return None
    tokens = [re.split(r"[_\-]", part.lower()) for part in differing]
    different = [pair for pair in zip(*tokens, strict=False) if pair[0] != pair[1]]
    if len(tokens[0]) != len(tokens[1]) or len(different) != 1:
        return None
    for words in _WORDS:
        if all(token in words for token in different[0]):
            a, b = map(words.index, different[0])
            return -1 if a < b else 1
    return None


def template(component: str) -> str:
    """A component without its numbers: `layer1` and `layer2` have the same."""
    return _split(component)[0]


def groups(found: Mapping[Module, object]) -> list[frozenset[Module]]:
    """Modules that their names put together: those in one container, and pairs such as conv_proj, bn_proj."""
    together: dict[tuple[str, ...], set[Module]] = defaultdict(set)
    words: dict[tuple[Module, str], set[Module]] = defaultdict(set)
    for module in found:
        for depth in range(1, len(module)):
            together[module[:depth]].add(module)
        for token in re.split(r"[_\-]", module[-1] if module else ""):
            if not any(letter.isdigit() for letter in token):
                words[module[:-1], token.lower()].add(module)
    pairs = [members for members in words.values() if len(members) == 2]
    return [frozenset(members) for members in (*together.values(), *pairs) if len(members) > 1]


def _split(component: str) -> tuple[str, tuple[int, ...]]:
    return re.sub(r"[0-9]+", "#", component), tuple(map(int, re.findall(r"[0-9]+", component)))
