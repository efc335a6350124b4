"""What each operation asks of a linear map that acts on a group of units.

Each operation asks for equations between exponents, linear ones, which depend on the kind of map:

    operation          scaling s > 0        sign            rotation           invertible
    x + y              e equal              e equal         e equal            e equal
    x y, unit by unit  e = e_x + e_y        e = e_x + e_y   0, if both vary    0, if both vary
    sum_i x_i y_i      e_x + e_y = 0        e_x = e_y       e_x = e_y          e_x + e_y = 0
    sum_i x_i^2        0                    -               -                  0
    sum_i x_i          0                    0               0 (-, if T 1 = 1)  0
    max(x, 0)          e equal              0               0                  0
    tanh               0                    e equal         0                  0
    anything else      0                    0               0                  0

The solutions are the symmetries: what a new operation isn't known to allow is only missed, never wrong.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from llfc_jax.program.flat import Flat, Instruction
from llfc_jax.symmetry.exponents import KINDS, MATRICES, TURNS, Equations, Key

Rule: TypeAlias = Callable[[Equations, Instruction], None]


def equations(flat: Flat, keys: Mapping[int, Sequence[Key]]) -> Equations:
    """All that a program asks of the exponents of its groups."""
    found = Equations(flat, keys)
    for instruction in flat.instructions:
        if any(found.of(value) for value in (*instruction.operands, *instruction.results)):
            RULES.get(instruction.primitive, _unknown)(found, instruction)
    return found


def _unknown(found: Equations, instruction: Instruction) -> None:
    found.none(KINDS, *(key for x in (*instruction.operands, *instruction.results) for key in found.of(x)))


def _columns(found: Equations, instruction: Instruction) -> Iterable[tuple[Key, list[Key], list[int]]]:
    """For each group on the result of an elementwise operation, where it is on operands, and the others."""
    for key in found.of(instruction.results[0]):
        present = [
            other
            for operand in instruction.operands
            for other in found.of(operand)
            if (other.axis, other.group) == (key.axis, key.group)
        ]
        having = {other.value for other in present}
        yield key, present, [operand for operand in instruction.operands if operand not in having]


def _varying(found: Equations, keys: Sequence[Key]) -> list[Key]:
    return [key for key in keys if key not in found.uniform]


def _settle_uniform(found: Equations, result: Key, present: Sequence[Key]) -> bool:
    """Whether all that an elementwise operation reads is uniform; then nothing acts on the result either."""
    if _varying(found, present):
        return False
    found.uniform.add(result)
    found.none(KINDS, result)
    return True


def _add(found: Equations, instruction: Instruction) -> None:
    for result, present, absent in _columns(found, instruction):
        if _settle_uniform(found, result, present):
            continue
        varying = _varying(found, present)
        shifted = len(varying) < len(present) or any(not found.is_zero(x) for x in absent)
        for key in varying:
            found.equal(KINDS, result, key)
            if key in found.squares:
                found.none(TURNS, key)
        if shifted:
            found.none([kind for kind in KINDS if kind != "mean-fixing orthogonal"], result, *present)


def _multiply(found: Equations, instruction: Instruction) -> None:
    sign = -1 if instruction.primitive == "div" else 1
    for result, present, _ in _columns(found, instruction):
        if _settle_uniform(found, result, present):
            continue
        varying = _varying(found, present)
        first = [key for key in present if key.value == instruction.operands[0]]
        terms = [(key, -1 if key in first else -sign) for key in present]
        found.state(("scaling", "sign"), (result, 1), *terms)
        divided = sign < 0 and varying != first[:1]
        if len(varying) == 1 and not divided:
            found.carry(varying[0], result, MATRICES)
            if (scale := _scale(found, varying)) is not None:
                found.scales[result] = scale[1]
        elif sign > 0 and len(varying) == 2 and varying[0] == varying[1]:
            _squared(found, varying[0], result)
        elif sign > 0 and len({*varying}) == 2 and (scale := _scale(found, varying)):
            (other,) = {*varying} - {scale[0]}
            found.none(("invertible",), *varying, result)
            found.none(TURNS, scale[0])
            found.constant.append(scale[1])
            found.carry(other, result, TURNS)
        else:
            found.none(MATRICES, *varying, result)


def _scale(found: Equations, keys: Iterable[Key]) -> tuple[Key, Key] | None:
    """The one of several factors that is made of weights, if one is, and these weights.

    It may have been multiplied by what doesn't vary: a norm's scale, by one over the deviation.
    """
    made = [(key, key) for key in keys if found.flat.is_weight(key.value)]
    made += [(key, found.scales[key]) for key in keys if key in found.scales]
    return made[0] if len(made) == 1 else None


def _squared(found: Equations, key: Key, result: Key) -> None:
    found.none(MATRICES, result)
    found.none(("invertible",), key)
    if key in found.squares:
        found.none(TURNS, key)
    found.squares[result] = key


def _power(found: Equations, instruction: Instruction) -> None:
    power = instruction.eqn.params.get("y", 2)
    for result, present, _ in _columns(found, instruction):
        if _settle_uniform(found, result, present):
            continue
        (key,) = present
        found.state(("scaling", "sign"), (result, 1), (key, -power))
        if power == 2:
            _squared(found, key, result)
        else:
            found.none(MATRICES, key, result)


def _root(found: Equations, instruction: Instruction) -> None:
    sign = 1 if instruction.primitive == "sqrt" else -1
    for result, present, _ in _columns(found, instruction):
        if not _settle_uniform(found, result, present):
            found.state(("scaling",), (result, 2), (present[0], -sign))
            found.none((*MATRICES, "sign"), result, *present)


def _elementwise(*kinds: str, even: bool = False) -> Rule:
    """The rule of a function of each number that maps of some kinds pass through.

    Args:
        *kinds: of maps.
        even: whether signs are lost.
    """

    def rule(found: Equations, instruction: Instruction) -> None:
        for result, present, absent in _columns(found, instruction):
            if _settle_uniform(found, result, present):
                continue
            passing = kinds if all(found.is_zero(x) for x in absent) else ()
            for key in present:
                found.carry(key, result, passing)
            found.none([kind for kind in KINDS if kind not in (*passing, "sign")], result, *present)
            if "sign" not in passing:
                found.none(("sign",), result, *(() if even else present))

    return rule


def _compare(found: Equations, instruction: Instruction) -> None:
    for result, present, absent in _columns(found, instruction):
        for key in present[1:]:
            found.equal(("scaling",), present[0], key)
        if not all(found.is_zero(x) for x in absent):
            found.none(("scaling",), *present)
        if not _settle_uniform(found, result, present):
            found.none((*MATRICES, "sign"), *present)
        found.none(KINDS, result)


def _select(found: Equations, instruction: Instruction) -> None:
    which = instruction.operands[0]
    for result, present, absent in _columns(found, instruction):
        if _settle_uniform(found, result, present):
            continue
        cases = [key for key in present if key.value != which]
        for key in cases:
            _pass(found, key, result)
        if any(not found.is_zero(x) for x in absent if x != which):
            found.none(KINDS, result)
        if len(cases) < len(present):
            found.none(MATRICES, result)


def _moved(found: Equations, instruction: Instruction) -> None:
    """Numbers in another order or form, some left out, zeros put in."""
    types = [found.flat.avals[value].dtype for value in (instruction.operands[0], instruction.results[0])]
    if np.issubdtype(types[0], np.inexact) and not np.issubdtype(types[1], np.inexact):
        _unknown(found, instruction)
        return
    carried = set[Key]()
    for operand in instruction.operands:
        for result in instruction.results:
            for old, new in _paired(found.of(operand), found.of(result)):
                found.carry(old, new)
                carried.add(new)
    filled = instruction.primitive == "pad" and not found.is_zero(instruction.operands[1])
    for result in instruction.results:
        for key in found.of(result):
            if key not in carried or filled:
                found.none(KINDS, key)


def _paired(old: Sequence[Key], new: Sequence[Key]) -> list[tuple[Key, Key]]:
    """The same groups on two values: by name, or in order where a name is there twice."""
    names = [key.group for key in old], [key.group for key in new]
    if names[0] == names[1]:
        return list(zip(old, new, strict=True))
    if all(len({*own}) == len(own) for own in names):
        by_name = {key.group: key for key in new}
        return [(key, by_name[key.group]) for key in old if key.group in by_name]
    return []


def _transpose(found: Equations, instruction: Instruction) -> None:
    new = {(key.axis, key.group): key for key in found.of(instruction.results[0])}
    places = list(instruction.eqn.params["permutation"])
    for key in found.of(instruction.operands[0]):
        found.carry(key, new[places.index(key.axis), key.group])


def _broadcast(found: Equations, instruction: Instruction) -> None:
    new = {(key.axis, key.group): key for key in found.of(instruction.results[0])}
    dims = instruction.eqn.params["broadcast_dimensions"]
    for key in found.of(instruction.operands[0]):
        found.carry(key, new.pop((dims[key.axis], key.group)))
    found.uniform |= {*new.values()}
    if found.is_zero(instruction.operands[0]):
        found.zeros.add(instruction.results[0])
    else:
        found.none(KINDS, *new.values())


def _reduce(*kinds: str, total: bool = False) -> Rule:
    """The rule of a reduction that maps of some kinds pass through along the axes that are kept.

    Args:
        *kinds: of maps.
        total: whether it is a sum, which squares and the mean's direction are for.
    """

    def rule(found: Equations, instruction: Instruction) -> None:
        axes = instruction.eqn.params["axes"]
        kept = [axis for axis in range(_ndim(found, instruction.operands[0])) if axis not in axes]
        new = {(kept[key.axis], key.group): key for key in found.of(instruction.results[0])}
        for key in found.of(instruction.operands[0]):
            if key.axis in kept:
                found.carry(key, new[key.axis, key.group], kinds)
                found.none([kind for kind in KINDS if kind not in kinds], key, new[key.axis, key.group])
            elif key not in found.uniform:
                found.state(("scaling", "sign", "invertible"), (key, 1))
                if not total:
                    found.none(TURNS, key)
                elif key not in found.squares:
                    found.none(("orthogonal",), key)

    return rule


def _ndim(found: Equations, value: int) -> int:
    return len(found.flat.avals[value].shape)


def _dot_general(found: Equations, instruction: Instruction) -> None:
    (left_sum, right_sum), (left_batch, right_batch) = instruction.eqn.params["dimension_numbers"]
    left, right = (list(found.of(operand)) for operand in instruction.operands)
    new = {(key.axis, key.group): key for key in found.of(instruction.results[0])}
    _meet(found, _on(left, left_sum), _on(right, right_sum))
    for i, (x, y) in enumerate(zip(left_batch, right_batch, strict=True)):
        pair = _on(left, (x,)), _on(right, (y,))
        if len(pair[0]) != len(pair[1]):
            _unknown(found, instruction)
            return
        for first, second in zip(*pair, strict=True):
            _scaled(found, new[i, first.group], first, second)
    frees, start = ((left, left_sum, left_batch, 0), (right, right_sum, right_batch, 1)), len(left_batch)
    for keys, summed, batch, side in frees:
        ndim = _ndim(found, instruction.operands[side])
        free = [axis for axis in range(ndim) if axis not in (*summed, *batch)]
        for key in keys:
            if key.axis in free:
                _pass(found, key, new[start + free.index(key.axis), key.group])
        start += len(free)


def _on(keys: Sequence[Key], axes: Sequence[int]) -> list[Key]:
    return [key for axis in axes for key in keys if key.axis == axis]


def _pass(found: Equations, old: Key, new: Key) -> None:
    """A linear operation along other axes, after which squares are squares no more."""
    found.equal(KINDS, new, old)
    if old in found.uniform:
        found.uniform.add(new)
    if old in found.squares:
        found.none(TURNS, old)


def _scaled(found: Equations, result: Key, first: Key, second: Key) -> None:
    """A product of two values unit by unit."""
    if _settle_uniform(found, result, (first, second)):
        return
    varying = _varying(found, (first, second))
    found.state(("scaling", "sign"), (result, 1), (first, -1), (second, -1))
    if len(varying) == 1:
        _pass(found, varying[0], result)
    else:
        found.none(MATRICES, result, *varying)


def _meet(found: Equations, left: Sequence[Key], right: Sequence[Key]) -> None:
    """A sum over units of products of two values."""
    pairs = zip(left, right, strict=True) if [x.group for x in left] == [y.group for y in right] else ()
    if not pairs:
        found.none(KINDS, *left, *right)
    for first, second in pairs:
        varying = _varying(found, (first, second))
        if len(varying) < 2:
            found.none([kind for kind in KINDS if kind != "mean-fixing orthogonal"], *varying)
            continue
        found.state(("scaling", "invertible"), (first, 1), (second, 1))
        found.equal(("sign", *TURNS), first, second)
        for key in varying:
            if key in found.squares:
                found.none(TURNS, key)


def _convolution(found: Equations, instruction: Instruction) -> None:
    params = instruction.eqn.params
    numbers = params["dimension_numbers"]
    entry, weight = (found.of(operand) for operand in instruction.operands)
    if params["feature_group_count"] != 1 or params["batch_group_count"] != 1:
        _unknown(found, instruction)
        return
    _meet(found, _on(entry, (numbers.lhs_spec[1],)), _on(weight, (numbers.rhs_spec[1],)))
    new = {(key.axis, key.group): key for key in found.of(instruction.results[0])}
    carried = (entry, numbers.lhs_spec, numbers.out_spec[0]), (weight, numbers.rhs_spec, numbers.out_spec[1])
    for keys, spec, axis in carried:
        for key in keys:
            if key.axis == spec[0]:
                _pass(found, key, new[axis, key.group])
            elif key.axis != spec[1]:
                found.none(KINDS, key)


RULES: dict[str, Rule] = {
    **dict.fromkeys(("add", "sub", "add_any"), _add),
    **dict.fromkeys(("mul", "div"), _multiply),
    **dict.fromkeys(("square", "integer_pow"), _power),
    **dict.fromkeys(("sqrt", "rsqrt"), _root),
    **dict.fromkeys(("neg", "real", "stop_gradient"), _elementwise(*KINDS)),
    **dict.fromkeys(("max", "min"), _elementwise("scaling")),
    "abs": _elementwise("scaling", even=True),
    **dict.fromkeys(
        ("tanh", "sin", "tan", "atan", "sinh", "asinh", "erf", "erf_inv", "cbrt"), _elementwise("sign")
    ),
    **dict.fromkeys(("cos", "cosh"), _elementwise(even=True)),
    **dict.fromkeys(("exp", "exp2", "expm1", "log", "log1p", "logistic", "erfc", "pow"), _elementwise()),
    **dict.fromkeys(("gt", "ge", "lt", "le", "eq", "ne"), _compare),
    "select_n": _select,
    **dict.fromkeys(
        (
            *("reshape", "squeeze", "convert_element_type", "copy", "copy_p", "name", "reduce_precision"),
            *("optimization_barrier", "sharding_constraint", "slice", "pad", "concatenate", "split"),
            "gather",
        ),
        _moved,
    ),
    "transpose": _transpose,
    "broadcast_in_dim": _broadcast,
    "reduce_sum": _reduce(*KINDS, total=True),
    **dict.fromkeys(("reduce_max", "reduce_min"), _reduce("scaling")),
    "dot_general": _dot_general,
    "conv_general_dilated": _convolution,
}
"""Primitive name -> what it asks."""
