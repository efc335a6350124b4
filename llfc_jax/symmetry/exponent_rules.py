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

from collections.abc import Sequence

import jax.numpy as jnp

from llfc_jax.program.flat import Instruction
from llfc_jax.symmetry import exponent_products as products
from llfc_jax.symmetry.exponents import KINDS, MATRICES, TURNS, Equations, Key, Rule, columns, unknown
from llfc_jax.symmetry.places import MOVING, Places


def equations(places: Places) -> Equations:
    """All that a program asks of the exponents of its groups."""
    flat = places.flat
    found = Equations(flat, places.keys(), places.before, places.lost)
    for instruction in flat.instructions:
        if any(found.of(value) for value in (*instruction.operands, *instruction.results)):
            RULES.get(instruction.primitive, unknown)(found, instruction)
    return found


def _add(found: Equations, instruction: Instruction) -> None:
    for result, present, absent in columns(found, instruction):
        if found.settle_uniform(result, present):
            continue
        varying = found.varying(present)
        shifted = len(varying) < len(present) or any(not found.is_zero(x) for x in absent)
        for key in varying:
            found.equal(KINDS, result, key)
            if key in found.squares:
                found.none(TURNS, key)
        if shifted:
            found.none([kind for kind in KINDS if kind != "mean-fixing orthogonal"], result, *present)


def _root(found: Equations, instruction: Instruction) -> None:
    sign = 1 if instruction.primitive == "sqrt" else -1
    for result, present, _ in columns(found, instruction):
        if not found.settle_uniform(result, present):
            found.state(("scaling",), (result, 2), (present[0], -sign))
            found.none((*MATRICES, "sign"), result, *present)


def _elementwise(*kinds: str, even: bool = False) -> Rule:
    """The rule of a function of each number that maps of some kinds pass through.

    Args:
        *kinds: of maps.
        even: whether signs are lost.
    """

    def rule(found: Equations, instruction: Instruction) -> None:
        for result, present, absent in columns(found, instruction):
            if found.settle_uniform(result, present):
                continue
            passing = kinds if all(found.is_zero(x) for x in absent) else ()
            found.carry(result, *present, kinds=passing)
            found.none([kind for kind in KINDS if kind not in (*passing, "sign")], result, *present)
            if "sign" not in passing:
                found.none(("sign",), result, *(() if even else present))

    return rule


def _compare(found: Equations, instruction: Instruction) -> None:
    for result, present, absent in columns(found, instruction):
        for key in present[1:]:
            found.equal(("scaling",), present[0], key)
        if not all(found.is_zero(x) for x in absent):
            found.none(("scaling",), *present)
        if not found.settle_uniform(result, present):
            found.none((*MATRICES, "sign"), *present)
        found.none(KINDS, result)


def _select(found: Equations, instruction: Instruction) -> None:
    which = instruction.operands[0]
    for result, present, absent in columns(found, instruction):
        if found.settle_uniform(result, present):
            continue
        cases = [key for key in present if key.value != which]
        found.equal(KINDS, result, *cases)  # it varies, as what is read does, or what chooses
        found.none(TURNS, *(key for key in cases if key in found.squares))
        if any(not found.is_zero(x) for x in absent if x != which):
            found.none(KINDS, result)
        if len(cases) < len(present):
            found.none(MATRICES, result)


def _moved(found: Equations, instruction: Instruction) -> None:
    """Numbers in another order or form, some left out, zeros put in."""
    types = [found.flat.avals[value].dtype for value in (instruction.operands[0], instruction.results[0])]
    if jnp.issubdtype(types[0], jnp.inexact) and not jnp.issubdtype(types[1], jnp.inexact):
        unknown(found, instruction)
        return
    carried: dict[Key, list[Key]] = {}
    for i in range(len(instruction.operands)):
        for j in range(len(instruction.results)):
            pairs = _paired(found, instruction, i, j)
            if pairs is None:  # which are which?
                unknown(found, instruction)
                return
            for old, new in pairs:
                carried.setdefault(new, []).append(old)
    for key, own in carried.items():
        found.carry(key, *own)
    beside = {"pad": [1], "concatenate": range(len(instruction.operands))}.get(instruction.primitive, ())
    filled = [x for x in (instruction.operands[i] for i in beside) if not found.is_zero(x)]
    along = _filled_along(instruction)
    for result in instruction.results:
        for key in found.of(result):
            from_all = {old.value for old in carried.get(key, ())}.issuperset(filled)
            if key not in carried or not (from_all or along == {key.axis}):
                found.none(KINDS, key)
    if instruction.primitive in ("slice", "split"):  # which leave whole groups out, or take one position
        for j in range(len(instruction.results)):
            found.none(KINDS, *found.lost(instruction, 0, j))
    else:
        kept = {old for own in carried.values() for old in own}
        left = [key for operand in instruction.operands for key in found.of(operand) if key not in kept]
        found.none(KINDS, *left)


def _filled_along(instruction: Instruction) -> set[int]:
    """Along which axes a value has others beside it."""
    params = instruction.eqn.params
    if instruction.primitive == "pad":
        return {i for i, added in enumerate(params["padding_config"]) if added != (0, 0, 0)}
    return {params["dimension"]} if instruction.primitive == "concatenate" else set()


def _paired(
    found: Equations, instruction: Instruction, operand: int, result: int
) -> list[tuple[Key, Key]] | None:
    """The same groups on an operand and a result: by name, or in order where a name is there twice.

    Where they are on parts of an axis, by positions; None if by neither.
    """
    old, new = found.of(instruction.operands[operand]), found.of(instruction.results[result])
    if any(key.part for key in (*old, *new)):
        placed = instruction.primitive in MOVING and _alone(old) and _alone(new)
        return [*dict.fromkeys(found.before(instruction, operand, result))] if placed else None
    names = [key.group for key in old], [key.group for key in new]
    if names[0] == names[1]:
        return list(zip(old, new, strict=True))
    if all(len({*own}) == len(own) for own in names):
        by_name = {key.group: key for key in new}
        return [(key, by_name[key.group]) for key in old if key.group in by_name]
    return None if {*names[0]} & {*names[1]} else []


def _alone(keys: Sequence[Key]) -> bool:
    """Whether no group is along two axes of a value, or twice along one of the same part."""
    return len({*keys}) == len(keys) and len({(key.group, key.axis) for key in keys}) == len(
        {key.group for key in keys}
    )


def _transpose(found: Equations, instruction: Instruction) -> None:
    new = {key.place: key for key in found.of(instruction.results[0])}
    places = list(instruction.eqn.params["permutation"])
    for key in found.of(instruction.operands[0]):
        found.carry(new[key.moved(places.index(key.axis))], key)


def _broadcast(found: Equations, instruction: Instruction) -> None:
    new = {key.place: key for key in found.of(instruction.results[0])}
    dims = instruction.eqn.params["broadcast_dimensions"]
    for key in found.of(instruction.operands[0]):
        found.carry(new.pop(key.moved(dims[key.axis])), key)
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
        kept = [axis for axis in range(found.ndim(instruction.operands[0])) if axis not in axes]
        new = {key.moved(kept[key.axis]): key for key in found.of(instruction.results[0])}
        for key in found.of(instruction.operands[0]):
            if key.axis in kept:
                found.carry(new[key.place], key, kinds=kinds)
                found.none([kind for kind in KINDS if kind not in kinds], key, new[key.place])
            elif key not in found.uniform:
                found.state(("scaling", "sign", "invertible"), (key, 1))
                if not total:
                    found.none(TURNS, key)
                elif key not in found.squares:
                    found.none(("orthogonal",), key)

    return rule


def _enter(found: Equations, instruction: Instruction) -> None:
    """Nothing acts on pairs inside; `_leave` says what acts on them as a whole."""
    before = {key.place: key for key in found.of(instruction.operands[0])}
    for key in found.of(instruction.results[0]):
        found.carry(key, before[key.place])


def _leave(found: Equations, instruction: Instruction) -> None:
    """Of pairs, all maps that commute with turning them; what else acts has come through the inside."""
    for key, present, _ in columns(found, instruction):
        if key.axis == instruction.eqn.params["axis"]:
            found.pass_on(key, *present, kinds=("invertible",))
            found.none([kind for kind in KINDS if kind != "invertible"], key, *present)
        else:
            found.carry(key, *(other for other in present if other.value == instruction.operands[1]))


RULES: dict[str, Rule] = {
    **dict.fromkeys(("add", "sub", "add_any"), _add),
    **dict.fromkeys(("mul", "div"), products.multiply),
    **dict.fromkeys(("square", "integer_pow"), products.power),
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
    "rotary_enter": _enter,
    "rotary_leave": _leave,
    "reduce_sum": _reduce(*KINDS, total=True),
    **dict.fromkeys(("reduce_max", "reduce_min"), _reduce("scaling")),
    "dot_general": products.dot_general,
    "conv_general_dilated": products.convolution,
}
"""Primitive name -> what it asks."""
