"""What products ask of the maps of their factors: unit by unit, of a value with itself, summed over units."""

from collections.abc import Iterable, Sequence

from llfc_jax.program.flat import Instruction
from llfc_jax.symmetry.exponents import KINDS, MATRICES, TURNS, Equations, Key, columns, unknown


def multiply(found: Equations, instruction: Instruction) -> None:
    """A product or quotient unit by unit."""
    sign = -1 if instruction.primitive == "div" else 1
    for result, present, _ in columns(found, instruction):
        if found.settle_uniform(result, present):
            continue
        varying = found.varying(present)
        first = [key for key in present if key.value == instruction.operands[0]]
        terms = [(key, -1 if key in first else -sign) for key in present]
        found.state(("scaling", "sign"), (result, 1), *terms)
        divided = sign < 0 and varying != first[:1]
        if len(varying) == 1 and not divided:
            found.carry(result, varying[0], kinds=MATRICES)
            if (scale := _scale(found, varying)) is not None:
                found.scales[result] = scale[1]
        elif sign > 0 and len(varying) == 2 and varying[0] == varying[1]:
            _squared(found, varying[0], result)
        elif sign > 0 and len({*varying}) == 2 and (scale := _scale(found, varying)):
            (other,) = {*varying} - {scale[0]}
            found.none(("invertible",), *varying, result)
            found.none(TURNS, scale[0])
            found.constant.append(scale[1])
            found.carry(result, other, kinds=TURNS)
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


def power(found: Equations, instruction: Instruction) -> None:
    """A whole power of each unit; a square, if no other."""
    exponent = instruction.eqn.params.get("y", 2)
    for result, present, _ in columns(found, instruction):
        if found.settle_uniform(result, present):
            continue
        (key,) = present
        found.state(("scaling", "sign"), (result, 1), (key, -exponent))
        if exponent == 2:
            _squared(found, key, result)
        else:
            found.none(MATRICES, key, result)


def dot_general(found: Equations, instruction: Instruction) -> None:
    """A matrix product: summed over some units, carried along others, unit by unit along batches."""
    (left_sum, right_sum), (left_batch, right_batch) = instruction.eqn.params["dimension_numbers"]
    left, right = (list(found.of(operand)) for operand in instruction.operands)
    new = {key.place: key for key in found.of(instruction.results[0])}
    _meet(found, _on(left, left_sum), _on(right, right_sum))
    for i, (x, y) in enumerate(zip(left_batch, right_batch, strict=True)):
        pair = _on(left, (x,)), _on(right, (y,))
        if [key.moved(i) for key in pair[0]] != [key.moved(i) for key in pair[1]]:
            unknown(found, instruction)
            return
        for first, second in zip(*pair, strict=True):
            _scaled(found, new[first.moved(i)], first, second)
    frees, start = ((left, left_sum, left_batch, 0), (right, right_sum, right_batch, 1)), len(left_batch)
    for keys, summed, batch, side in frees:
        ndim = found.ndim(instruction.operands[side])
        free = [axis for axis in range(ndim) if axis not in (*summed, *batch)]
        for key in keys:
            if key.axis in free:
                found.pass_on(new[key.moved(start + free.index(key.axis))], key)
        start += len(free)


def _on(keys: Sequence[Key], axes: Sequence[int]) -> list[Key]:
    return [key for axis in axes for key in keys if key.axis == axis]


def _scaled(found: Equations, result: Key, first: Key, second: Key) -> None:
    """A product of two values unit by unit."""
    if found.settle_uniform(result, (first, second)):
        return
    varying = found.varying((first, second))
    found.state(("scaling", "sign"), (result, 1), (first, -1), (second, -1))
    if len(varying) == 1:
        found.pass_on(result, varying[0])
    else:
        found.none(MATRICES, result, *varying)


def _meet(found: Equations, left: Sequence[Key], right: Sequence[Key]) -> None:
    """A sum over units of products of two values."""
    alike = [x.moved(0) for x in left] == [y.moved(0) for y in right]
    pairs = zip(left, right, strict=True) if alike else ()
    if not pairs:
        found.none(KINDS, *left, *right)
    for first, second in pairs:
        varying = found.varying((first, second))
        if len(varying) < 2:
            found.none([kind for kind in KINDS if kind != "mean-fixing orthogonal"], *varying)
            continue
        found.state(("scaling", "invertible"), (first, 1), (second, 1))
        found.equal(("sign", *TURNS), first, second)
        for key in varying:
            if key in found.squares:
                found.none(TURNS, key)


def convolution(found: Equations, instruction: Instruction) -> None:
    """Sums over the input's channels; a kernel is of one group."""
    params = instruction.eqn.params
    numbers = params["dimension_numbers"]
    entry, weight = (found.of(operand) for operand in instruction.operands)
    if params["feature_group_count"] != 1 or params["batch_group_count"] != 1:
        unknown(found, instruction)
        return
    _meet(found, _on(entry, (numbers.lhs_spec[1],)), _on(weight, (numbers.rhs_spec[1],)))
    new = {key.place: key for key in found.of(instruction.results[0])}
    carried = (entry, numbers.lhs_spec, numbers.out_spec[0]), (weight, numbers.rhs_spec, numbers.out_spec[1])
    for keys, spec, axis in carried:
        for key in keys:
            if key.axis == spec[0]:
                found.pass_on(new[key.moved(axis)], key)
            elif key.axis != spec[1]:
                found.none(KINDS, key)
