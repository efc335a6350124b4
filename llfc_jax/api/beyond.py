"""Beyond the line: curves between two networks, the centre of a star of many, the plane through three."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import jax

from llfc_jax.api.streams import check_repeatable, first_look, with_labels
from llfc_jax.arguments import checked
from llfc_jax.errors import UserError
from llfc_jax.measures.evaluation import LossFn, cross_entropy
from llfc_jax.measures.plane import plane_through, scan
from llfc_jax.path.bending import bend
from llfc_jax.path.curves import Curve
from llfc_jax.path.descent import Budget
from llfc_jax.path.examples import Examples, masked_batches, over_devices
from llfc_jax.path.interpolation import check_same_structure
from llfc_jax.path.star import star
from llfc_jax.program.features import WithoutFeatures
from llfc_jax.program.nodes import Program, apply_of
from llfc_jax.types import Array, Batch, PyTree, Variables


@checked
def train_curve(
    network: Program | Callable[[Variables, Any], PyTree],
    a: Variables,
    b: Variables,
    batches: Iterable[Examples],
    *,
    kind: str = "bezier",
    steps: int = 1_000,
    learning_rate: float = 1e-3,
    loss: Callable[[Variables, Batch], Array] | None = None,
    seed: int = 0,
) -> Curve:
    """A curve from A to B along which the loss is low: is what fails on the line there at all?

    The bend is trained by sampling points on the curve (Garipov et al. 2018, arXiv 1802.10026); see
    `llfc_jax.path.bending`. `curve.at(alpha)` is a network on it.

    Args:
        network: from `read`, or an `apply(variables, inputs)` in evaluation mode; pure.
        a: variables of A, where the curve starts.
        b: variables of B, where it ends.
        batches: labelled training data that can be read again, such as a list of (inputs, labels).
        kind: `bezier`, quadratic, or `polygon`, two straight pieces.
        steps: how many batches to see, each at one alpha.
        learning_rate: of Adam at the start.
        loss: variables, `llfc_jax.types.Batch` -> mean loss; by default the cross-entropy of the logits. With
            BatchNorm better that of the training mode, and the curve measured with its statistics recomputed.
        seed: of the alphas.

    Raises:
        UserError: A and B differ in structure, the kind is unknown, a batch is not one or there is none, or
            training diverges.

    Example:
        >>> import jax.numpy as jnp
        >>> apply = lambda w, x: x @ w
        >>> curve = train_curve(apply, jnp.eye(2), -jnp.eye(2), [(jnp.eye(2), jnp.arange(2))], steps=3)
        >>> curve.at(0.0).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    loss_fn, labelled = _training(network, (a, b), batches, loss)
    curve, _ = bend(
        jax.random.key(seed),
        a,
        b,
        kind=kind,
        loss_fn=loss_fn,
        batches=labelled,
        budget=Budget(steps, learning_rate),
    )
    return curve


@checked
def train_star(
    network: Program | Callable[[Variables, Any], PyTree],
    networks: Sequence[Variables],
    batches: Iterable[Examples],
    *,
    steps: int = 1_000,
    learning_rate: float = 1e-3,
    loss: Callable[[Variables, Batch], Array] | None = None,
    seed: int = 0,
) -> Variables:
    """The centre of a star: a network C such that the lines from it to all of several have a low loss.

    Trained by sampling points on these lines (Sonthalia et al. 2024, arXiv 2403.07968); see
    `llfc_jax.path.star`. `measure(program, network, C, batches)` then tells whether they are connected.

    Args:
        network: from `read`, or an `apply(variables, inputs)` in evaluation mode; pure.
        networks: variables of two or more, best aligned with each other (`align`, `universe_matching`).
        batches: labelled training data that can be read again, such as a list of (inputs, labels).
        steps: how many batches to see, each at one alpha of one line.
        learning_rate: of Adam at the start.
        loss: variables, `llfc_jax.types.Batch` -> mean loss; by default the cross-entropy of the logits.
        seed: of the lines and alphas.

    Raises:
        UserError: there are less than two networks, they differ in structure, a batch is not one or there is
            none, or training diverges.

    Example:
        >>> import jax.numpy as jnp
        >>> apply = lambda w, x: x @ w
        >>> centre = train_star(apply, [jnp.eye(2), jnp.eye(2)], [(jnp.eye(2), jnp.arange(2))], steps=3)
        >>> bool(centre[0, 0] > 1)
        True
    """
    if len(networks) < 2:
        raise UserError(f"networks: expected two or more; found {len(networks)}")
    for other in networks[1:]:
        check_same_structure(networks[0], other)
    loss_fn, labelled = _training(network, networks, batches, loss)
    centre, _ = star(
        jax.random.key(seed),
        networks,
        loss_fn=loss_fn,
        batches=labelled,
        budget=Budget(steps, learning_rate),
    )
    return centre


def _training(
    network: Program | Callable[[Variables, Any], PyTree],
    networks: Sequence[Variables],
    batches: Iterable[Examples],
    loss: Callable[[Variables, Batch], Array] | None,
) -> tuple[Callable[[Variables, Batch], Array], Callable[[], Iterator[Batch]]]:
    """The loss of a batch, and what starts a stream of labelled ones."""
    apply = apply_of(network)
    check_repeatable(batches)
    program, _ = first_look(WithoutFeatures(apply), networks, masked_batches(batches))
    return loss or partial(cross_entropy, apply), lambda: with_labels(program, masked_batches(batches), loss)


@checked
def evaluate_plane(
    apply: Callable[[Variables, Any], PyTree],
    a: Variables,
    b: Variables,
    c: Variables,
    batches: Iterable[Examples],
    size: int = 21,
    *,
    loss_fn: LossFn | None = None,
) -> dict[str, Any]:
    """Loss and error over the plane through three networks, such as A, B and the bend of a curve.

    Args:
        apply: variables, inputs -> (n, ..., classes) logits, in evaluation mode; pure.
        a: variables of A, the origin.
        b: variables of B, to its right.
        c: variables of C, above them.
        batches: see `evaluate_path`.
        size: points a side of a grid that reaches a quarter beyond the networks; each is a network to
            evaluate on all batches.
        loss_fn: outputs, labels -> (n, ...) losses, in place of cross-entropy; there are no errors then.

    Returns:
        `x` and `y`, distances in weights along and across B - A; `places`, where A, B and C are; `loss`
        (nats) and `error` (fraction), a list of x for each y; `loss_at_networks` and `error_at_networks`.

    Raises:
        UserError: they differ in structure, two are equal, or all lie on one line; or a batch is not one.

    Example:
        >>> import jax.numpy as jnp
        >>> a, b, c = (jnp.zeros((2, 2)).at[i, j].set(9.0) for i, j in ((0, 0), (1, 1), (0, 1)))
        >>> found = evaluate_plane(lambda w, x: x @ w, a, b, c, [(jnp.eye(2), jnp.arange(2))], size=3)
        >>> found["error_at_networks"]
        [0.5, 0.0, 1.0]
    """
    plane = plane_through({"A": a, "B": b, "C": c})
    program, stream = first_look(WithoutFeatures(apply), (a, b, c), masked_batches(batches, divide=True))
    stream = over_devices(with_labels(program, stream, loss_fn))
    return scan(plane, apply, stream, size, loss_fn=loss_fn)
