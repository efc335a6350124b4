"""Re-estimating BatchNorm's running statistics along the path.

Averaged weights meet averaged running statistics only approximately; the `recompute` convention replaces the
latter by the statistics of training data under theta_alpha (Izmailov et al. 2018; Jordan et al. 2023).
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.corrections.channel_moments import Statistics
from llfc_jax.corrections.correction import Correction, stream_along
from llfc_jax.errors import UserError
from llfc_jax.path.curves import Curve
from llfc_jax.path.interpolation import mean
from llfc_jax.program.nodes import Program
from llfc_jax.types import Array, Batch, PyTree, Variables

BatchStatistics = Callable[[Variables, Any], Statistics]
"""Variables, inputs -> mean and variance of what each BatchNorm sees of them, in training mode; pure."""
TrainApply = Callable[[Variables, Any], tuple[Any, PyTree]]
"""Variables, inputs -> outputs in training mode, and the variables that training updates, or all of them."""


def recompute(apply_train: TrainApply) -> Correction:
    """Recompute the running statistics of any network whose training mode updates them.

    Args:
        apply_train: such as Linen's `model.apply(variables, x, train=True, mutable=["batch_stats"])`, whose
            second result has the updated collection, or a function that returns all variables.
    """
    updates = Updates(apply_train)
    by_updates = recompute_by(updates, updates.replaced)

    def statistics(*given: Any) -> Mapping[float, Statistics]:
        found = by_updates.statistics(*given)
        _check_moved(found)
        return found

    return by_updates._replace(statistics=statistics)


def recompute_by(
    statistics_of: BatchStatistics, mend: Callable[[Variables, Statistics], Variables]
) -> Correction:
    """Recompute statistics that `statistics_of` knows how to find and `mend` where to put.

    Mean and variance are those of all batches together. Deeper layers see batches normalised by their own
    statistics, as in training.
    """

    def statistics(
        program: Program,
        curve: Curve,
        alphas: Sequence[float],
        batches: Callable[[], Iterable[Batch]],
    ) -> dict[float, Statistics]:
        del program
        return stream_along(_Along(statistics_of), curve, alphas, batches())

    def of_mean(
        program: Program,
        networks: Sequence[Variables],
        shares: Sequence[float],
        batches: Callable[[], Iterable[Batch]],
    ) -> Statistics:
        merged = mean(networks, shares)
        return statistics(program, Curve(merged, merged), (0.0,), batches)[0.0]

    return Correction("recompute", statistics, mend, of_mean)


@dataclasses.dataclass(frozen=True)
class _Along:
    """A `StatisticsAt`."""

    statistics_of: BatchStatistics

    def __call__(self, curve: Curve, alpha: Array, inputs: Any) -> Statistics:
        return self.statistics_of(curve.at(alpha), inputs)


@dataclasses.dataclass(frozen=True)
class Updates:
    """Batch statistics, from how training moves the running ones: m -> c m + (1 - c) batch.

    The update is affine in the old value, so two of them, from 0 and from 1, give c and the batch's.
    """

    apply_train: TrainApply

    def __call__(self, variables: Variables, inputs: Any) -> Statistics:
        """Of one batch, `{module: {mean, var}}`.

        Raises:
            UserError: training updates no pair of a mean and a variance.
        """
        places = self.places(variables, inputs)
        at_zero, at_one = (
            _by_path(self.apply_train(self._filled(variables, places, value), inputs)[1]) for value in (0, 1)
        )

        def of_batch(path: str) -> Array:
            kept = at_one[path] - at_zero[path]
            return at_zero[path] / (1 - kept)

        return {
            module: {which: of_batch(path) for which, path in pair.items()} for module, pair in places.items()
        }

    def places(self, variables: Variables, inputs: Any) -> dict[str, dict[str, str]]:
        """Module -> `mean` and `var` -> the path of that leaf."""
        shapes = jax.eval_shape(self.apply_train, variables, inputs)
        if not isinstance(shapes, tuple) or len(shapes) != 2:
            raise UserError("apply_train: expected (outputs, updated variables)")
        updated = _by_path(shapes[1])
        known = _by_path(variables)
        found = running_statistics(path for path in updated if path in known)
        if not found:
            raise UserError(
                "apply_train: expected updated statistics, such as batch_stats/bn/mean and var; found "
                + (", ".join(list(updated)[:5]) or "none")
            )
        return found

    def replaced(self, variables: Variables, statistics: Statistics) -> Variables:
        """The same parameters with other running statistics."""
        places = running_statistics(_by_path(variables))
        new = {
            path: statistics[module][which]
            for module, pair in places.items()
            if module in statistics
            for which, path in pair.items()
        }
        return _with(variables, new)

    def _filled(
        self, variables: Variables, places: Mapping[str, Mapping[str, str]], value: float
    ) -> Variables:
        known = _by_path(variables)
        paths = [path for pair in places.values() for path in pair.values()]
        return _with(variables, {path: jnp.full_like(known[path], value) for path in paths})


def running_statistics(paths: Iterable[str]) -> dict[str, dict[str, str]]:
    """Module -> `mean` and `var` -> the path of that leaf, of all modules that have both.

    What is neither `mean` nor PyTorch's `running_mean` is told apart by its name, of which a module may have
    several.

    Example:
        >>> running_statistics(["stats/bn/mean", "stats/bn/var", "stats/ema/mean", "params/bn/scale"])
        {'stats/bn': {'mean': 'stats/bn/mean', 'var': 'stats/bn/var'}}
        >>> list(running_statistics(["1.bn.running_mean", "1.bn.running_var", "mean_2", "var_2"]))
        ['1.bn', 'mean_2']
    """
    known, found = dict.fromkeys(paths), {}
    for path in known:
        if (parts := _OF_MEAN.fullmatch(path)) is not None:
            partner = path[: parts.start(2)] + parts[2].replace("mean", "var") + path[parts.end(2) :]
            if partner in known:
                module = (parts[1] or "") if parts[2] in _USUAL else path
                found[module] = {"mean": path, "var": partner}
    return found


_OF_MEAN = re.compile(r"(?:(.*)[/.])?([^/.]*mean[^/.]*)(?:[/.].*)?")
"""The module and the name of a mean; a variable of NNX has a part behind it."""
_USUAL = ("mean", "running_mean")


def _check_moved(statistics: Mapping[float, Statistics]) -> None:
    """Check that what was recomputed is finite.

    Raises:
        UserError: names the module where it isn't: its statistics didn't move.
    """
    for found in statistics.values():
        for module, own in found.items():
            if not all(np.isfinite(leaf).all() for leaf in own.values()):
                raise UserError(
                    f"apply_train: expected it to update the statistics of {module}; found them unmoved"
                )


def _by_path(tree: PyTree) -> dict[str, Array]:
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def _with(variables: Variables, new: Mapping[str, Array]) -> Variables:
    leaves = {**_by_path(variables), **new}
    return jax.tree.unflatten(jax.tree.structure(variables), leaves.values())
