"""Parts of a program that are one thing though they take many instructions: a GELU, a softmax, a norm."""

from collections.abc import Mapping

from llfc_jax.program.analysis import ROOT, Analysis
from llfc_jax.program.operations import CONTRACTIONS, STRUCTURAL, Role, dependents, is_linear


def regions(analysis: Analysis) -> tuple[dict[int, set[int]], set[int]]:
    """Where several paths from one activation meet, and none of them passes a weight's contraction.

    The whole is one thing then: a GELU, a softmax, a normalisation.

    Returns:
        Exit -> instructions of each outermost such region that is nonlinear, and the instructions of those
        that are linear, such as a rotation of positions.
    """
    owner: dict[int, int] = {}
    found: dict[int, set[int]] = {}
    for index in analysis.needed:
        if analysis.roles[index] is not Role.MERGE or len(analysis[index].results) > 1:
            continue
        (exit,) = analysis[index].results
        entry = analysis.dominator[exit]
        if entry == ROOT or (region := _between(analysis, entry, exit)) is None:
            continue
        region |= _before_softmax(analysis, entry, region, found)
        found[exit] = region
        owner.update(dict.fromkeys(region, exit))
    outermost = {exit: region for exit, region in found.items() if owner[analysis.producer[exit]] == exit}
    nonlinear = {
        exit: region
        for exit, region in outermost.items()
        if analysis.flat.moves(exit)
        and not all(is_linear(analysis.flat, analysis[index]) for index in region)
    }
    linear = (region for exit, region in outermost.items() if exit not in nonlinear)
    return nonlinear, set().union(*linear)


def _before_softmax(
    analysis: Analysis, entry: int, region: set[int], regions: Mapping[int, set[int]]
) -> set[int]:
    """The exponential, and the maximum that is subtracted before it, of what goes on to divide by a sum."""
    found: set[int] = set()
    sums = any(analysis[index].primitive == "reduce_sum" for index in region)
    while sums and entry in analysis.producer and entry not in analysis.named:
        index = analysis.producer[entry]
        if any(reader not in region | found for reader in analysis.consumers[entry]):
            break
        if entry in regions and any(analysis[i].primitive == "reduce_max" for i in regions[entry]):
            found |= regions[entry]
            break
        if analysis[index].primitive != "exp" and analysis[index].primitive not in STRUCTURAL:
            break
        found.add(index)
        (entry,) = dependents(analysis.flat, analysis[index]) or (ROOT,)
    exponential = any(analysis[index].primitive == "exp" for index in region | found)
    return found if exponential else set()


def _between(analysis: Analysis, entry: int, exit: int) -> set[int] | None:
    """The instructions on the ways from entry to exit; None if one of them stands for itself."""
    flat, found = analysis.flat, set()
    waiting = [exit]
    while waiting:
        index = analysis.producer[waiting.pop()]
        if index in found:
            continue
        found.add(index)
        instruction = analysis[index]
        of_its_own = analysis.roles[index] in (Role.CONTRACTION, Role.LOOKUP) or (
            instruction.primitive in CONTRACTIONS and len(dependents(flat, instruction)) > 1
        )
        if of_its_own or instruction.primitive in ("scan", "while", "cond"):
            return None
        for operand in dependents(flat, instruction):
            if operand == entry:
                continue
            if operand in analysis.named:
                return None
            waiting.append(operand)
    return found
