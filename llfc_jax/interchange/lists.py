"""Arrays that have no names of their own, in lists and tuples: what each is, told by what comes after it.

So are the weights of pure JAX, `[(w, b), ...]`, `list(model.parameters())`, and what `np.savez` numbers.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from llfc_jax.interchange import names
from llfc_jax.interchange.names import Module
from llfc_jax.interchange.torch_layouts import Shape

_POSITION = re.compile(r"(?:arr_)?(\d+)")


def modules(shapes: Mapping[str, Shape]) -> dict[Module, dict[str, str]]:
    """`names.modules`; where they say nothing, the layers that lists are made of.

    Example:
        >>> modules({"0/0": (4, 3), "0/1": (3,), "1/0": (3, 2), "1/1": (2,)})
        {('0',): {'kernel': '0/0', 'bias': '0/1'}, ('1',): {'kernel': '1/0', 'bias': '1/1'}}
    """
    found = names.modules(shapes)
    if any(role in names.ROLES for own in found.values() for role in own):
        return found
    lists: dict[Module, list[tuple[tuple[int, ...], str]]] = defaultdict(list)
    for name in shapes:
        parts = names.parts(name)
        end = len(parts)
        while end and _POSITION.fullmatch(parts[end - 1]):
            end -= 1
        position = tuple(int(part.removeprefix("arr_")) for part in parts[end:])
        lists[parts[:end]].append((position, name))
    layers = {
        (*start, str(index)): layer
        for start, members in lists.items()
        for index, layer in enumerate(_layers([name for _, name in sorted(members)], shapes))
    }
    return layers or found


def _layers(ordered: Sequence[str], shapes: Mapping[str, Shape]) -> list[dict[str, str]]:
    """A matrix and the bias after it, each; none if that isn't all, or if biases fit both sides of all.

    The bias has the size of the outputs, which are the last axis of a `kernel` and the first of a `weight`.
    """
    pairs = [*zip(ordered[::2], ordered[1::2], strict=False)]
    sides = [(shapes[matrix], shapes[bias]) for matrix, bias in pairs]
    if len(ordered) % 2 or any(len(matrix) < 2 or len(bias) != 1 for matrix, bias in sides):
        return []
    roles = [
        role
        for role, axis in (("kernel", -1), ("weight", 0))
        if all(matrix[axis] == bias[0] for matrix, bias in sides)
    ]
    return [{roles[0]: matrix, "bias": bias} for matrix, bias in pairs] if len(roles) == 1 else []
