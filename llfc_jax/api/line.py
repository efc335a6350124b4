"""Along the line between two networks: everything in one pass, or LMC and LLFC alone."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax

from llfc_jax.api.streams import first_look, with_labels
from llfc_jax.arguments import checked
from llfc_jax.corrections.correction import Correction
from llfc_jax.errors import UserError
from llfc_jax.measures import STANDARD
from llfc_jax.measures.evaluation import LossFn
from llfc_jax.measures.llfc import baseline, join, llfc
from llfc_jax.measures.lmc import lmc
from llfc_jax.measures.measure import Measure, Options
from llfc_jax.measures.pair import Data, measure_pair
from llfc_jax.path.curves import Curve
from llfc_jax.path.examples import Examples, NumExamples, masked_batches, over_devices
from llfc_jax.path.interpolation import alpha_grid
from llfc_jax.path.traversal import Planned, chunk_for, measure_path
from llfc_jax.program.features import NamedFeatures, WithoutFeatures, chosen
from llfc_jax.program.nodes import Program
from llfc_jax.types import Array, Batch, PyTree, Variables


@checked
def measure(
    program: Program,
    a: Variables,
    b: Variables,
    batches: Data,
    *,
    measures: Sequence[str | Measure] = STANDARD,
    num_alphas: int = 25,
    alphas: Sequence[float] = (0.25, 0.5, 0.75),
    top_k: int = 10,
    corrections: Sequence[Correction] = (),
    loss_fn: LossFn | None = None,
    num_examples: NumExamples | None = None,
    name: str = "network",
    curve: Curve | None = None,
) -> dict[str, Any]:
    """Everything about the line from A to B: LMC, LLFC, their causes and the theory, in one pass over data.

    All devices share each batch; in several processes of JAX, each calls this with the same arguments.

    Args:
        program: the network, from `read`.
        a: variables of A, running statistics included: all floats are interpolated.
        b: variables of B.
        batches: any iterable of `llfc_jax.path.examples.Examples` that can be read again, such as a list of
            (inputs, labels) or a `DataLoader`, or a function that starts one; or `{"test": ..., "train":
            ...}`, each such an iterable. Labels are classes, (n,) or (n, T, ...) as the logits, with a mask
            of those that count, and are not looked at where no measure does.
        measures: names in `llfc_jax.measures.MEASURES`, and `llfc_jax.measures.measure.Measure`s of your own.
        num_alphas: equally spaced points of the loss and error curves; 0, 1/2 and 1 are always among them.
        alphas: where on the path features are looked at, in [0, 1].
        top_k: dimension of the subspaces between which principal angles are taken.
        corrections: such as `llfc_jax.corrections.batchnorm.recompute(apply_train)` and
            `llfc_jax.corrections.repair.repair(program)`; estimated on the training batches.
        loss_fn: outputs, labels -> (n, ...) losses, in place of cross-entropy; there are no errors then.
            Give the same function again and nothing is compiled again.
        num_examples: for inputs whose first axis doesn't count examples, see `evaluate_path`.
        name: of the network, for the report.
        curve: from `train_curve` between the same A and B: all is measured along it, too. LLFC compares its
            features with what lies between those of the ends, as along the line.

    Returns:
        What `llfc_jax.results.schema` describes: each measure by path, `a-b`, `a-b/recompute`, `a-b/bezier`.

    Raises:
        UserError: A and B differ in structure, one has a NaN, a measure is unknown, batches are none or don't
            fit, or a correction finds nothing to correct.

    Example:
        >>> import jax.numpy as jnp
        >>> from llfc_jax import read
        >>> weights = {"in": jnp.eye(3), "out": jnp.ones((3, 2))}
        >>> program = read(lambda w, x: jax.nn.relu(x @ w["in"]) @ w["out"], weights, jnp.ones((2, 3)))
        >>> found = measure(program, weights, weights, [(jnp.eye(3), jnp.arange(3) % 2)], measures=("lmc",))
        >>> found["lmc"]["a-b"]["test"]["loss_barrier"]
        0.0
    """
    if not alphas:
        raise UserError("alphas: expected one at least; found none")
    return measure_pair(
        program,
        a,
        b,
        batches,
        measures=measures,
        options=Options(num_alphas, tuple(sorted({*alphas})), top_k, loss_fn),
        corrections=corrections,
        name=name,
        num_examples=num_examples,
        curve=curve,
    )


@checked
def evaluate_path(
    apply: Callable[[Variables, Any], PyTree],
    a: Variables,
    b: Variables,
    batches: Iterable[Examples],
    num_alphas: int = 25,
    *,
    loss_fn: LossFn | None = None,
    output: str | int | None = None,
    num_examples: NumExamples | None = None,
) -> dict[str, Any]:
    """Loss and error along the straight line from A to B, and how far they rise above their chord (LMC).

    One pass over the batches, in which every network on the line sees each of them once.

    Means are over all labels that count: with labels (n, T) and a mask, over the tokens of all batches.

    Args:
        apply: variables, inputs -> (n, ..., classes) logits, in evaluation mode; pure. Give the same function
            again and nothing is compiled again.
        a: variables of A, running statistics included: all floats are interpolated.
        b: variables of B.
        batches: any iterable of `llfc_jax.path.examples.Examples`, such as (inputs, labels); labels are
            integers, (n, ...) as the logits.
        num_alphas: equally spaced points on the line; 0, 1/2 and 1 are always among them.
        loss_fn: outputs, labels -> (n, ...) losses, in place of cross-entropy; labels are then any pytree,
            outputs all that `apply` returns, and there are no errors.
        output: the key or the index of the logits, where `apply` returns a dict or a tuple.
        num_examples: for inputs whose first axis doesn't count examples, such as the nodes of graphs: their
            number in each batch, or a function of the inputs that returns it. Such batches are neither cut
            nor padded.

    Returns:
        `alphas`; `loss` (nats) and `error` (fraction), parallel to them; `loss_barrier` and `error_barrier`,
        max over alpha of L(theta_alpha) - ((1 - alpha) L(A) + alpha L(B)); `loss_midpoint_gap` and
        `error_midpoint_gap`, L(theta_1/2) - (L(A) + L(B)) / 2; `loss_excess_std` and `error_excess_std`, the
        standard deviation over `examples` of what the former is the mean of, at each alpha. For sequences
        also `labels`, how many counted, and `perplexity`, exp of the loss.

    Raises:
        UserError: A and B differ in structure, or in integers that the outputs depend on; one has a NaN,
            `apply` returns no logits, a batch is not one or there is none, or a label is no class.

    Example:
        >>> import jax.numpy as jnp
        >>> apply = lambda w, x: x @ w
        >>> x, y = jnp.eye(2), jnp.arange(2)
        >>> found = evaluate_path(apply, 9 * jnp.eye(2), -9 * jnp.eye(2), [(x, y)], num_alphas=3)
        >>> found["alphas"], found["error"]
        ((0.0, 0.5, 1.0), [0.0, 0.5, 1.0])
    """
    alphas = alpha_grid(num_alphas)
    program, stream = first_look(
        chosen(WithoutFeatures(apply), output),
        (a, b),
        masked_batches(batches, num_examples=num_examples, divide=True),
    )
    stream = over_devices(with_labels(program, stream, loss_fn), num_examples)
    found = _measure(program, Curve(a, b), stream, {"lmc": Planned(lmc(loss_fn), alphas)})
    return {"alphas": alphas, **found["lmc"]}


@checked
def measure_features(
    apply_with_features: Callable[[Variables, Any], tuple[Array, PyTree]],
    a: Variables,
    b: Variables,
    batches: Iterable[Examples],
    alphas: Sequence[float] = (0.25, 0.5, 0.75),
    *,
    num_examples: NumExamples | None = None,
) -> dict[str, Any]:
    """How linear the features of every layer are along the line from A to B (LLFC, Definition 2).

    With u = f(theta_alpha) and v = (1 - alpha) f(A) + alpha f(B), LLFC holds at a layer where the distance
    1 - cos(u, v) is far below what the nearer end has in place of u. No feature outlives its batch.

    Args:
        apply_with_features: variables, inputs -> logits and named features, in evaluation mode; pure. The
            features are any pytree, such as a dict, the `intermediates` of Linen's `capture_intermediates`,
            or what NNX's `capture` returns; what is no (n, ...) array of floats is skipped.
        a: variables of A, running statistics included: all floats are interpolated.
        b: variables of B.
        batches: see `llfc_jax.path.examples.Examples`; labels are not looked at, and may be left out.
        alphas: points on the line, in [0, 1].
        num_examples: for inputs whose first axis doesn't count examples, see `evaluate_path`.

    Returns:
        `alphas`, and `layers` in the order in which the network computes them, each with `layer` (its name);
        `cosine_distance` 1 - cos(u, v) (with quartiles), `coefficient` <u, v> / ||v||^2 and `dist`
        ||u - v||^2 / (||u|| ||v||) (`mean`, `std` over samples, lists parallel to `alphas`); `dataset`, the
        same for the (samples x features) matrices at once; `end`, the distance between v and the features of
        the end that is nearer to it (`mean`, `std`); `baseline`, 1 - cos(f(A), f(B)); `dead`, the number of
        samples without an angle. `skipped` says of each feature without a row why it has none.

    Raises:
        UserError: A and B differ in structure, one has a NaN, an alpha is outside [0, 1], no feature is
            (n, ...) and floating-point, or a batch is not one or there is none.

    Example:
        >>> import jax.numpy as jnp
        >>> def apply(w, x):
        ...     hidden = jax.nn.relu(x @ w["in"])
        ...     return hidden @ w["out"], {"relu": hidden}
        >>> a, b = ({"in": jnp.eye(2), "out": scale * jnp.eye(2)} for scale in (1, 2))
        >>> layer, = measure_features(apply, a, b, [(jnp.eye(2), jnp.arange(2))])["layers"]
        >>> layer["layer"], layer["cosine_distance"]["mean"]
        ('relu', [0.0, 0.0, 0.0])
    """
    taken = tuple(sorted({*alphas}))
    program, stream = first_look(
        NamedFeatures(apply_with_features),
        (a, b),
        masked_batches(batches, labelled=False, num_examples=num_examples, divide=True),
    )
    layers = _caller_features(program)
    if not taken:
        raise UserError("alphas: expected one at least; found none")
    skipped = dict(program.skipped) | _without_samples(program)
    if not layers:
        why = ", ".join(f"{name}: {reason}" for name, reason in skipped.items())
        raise UserError("features: expected one at least; found none" + (f" ({why})" if why else ""))
    plan = {"llfc": Planned(llfc(layers), taken), "baseline": Planned(baseline(layers, taken), (0.0,))}
    found = _measure(program, Curve(a, b), over_devices(stream, num_examples), plan)
    return {
        "alphas": taken,
        "layers": join(found["llfc"], found["baseline"]),
        "skipped": skipped,
    }


def _measure(
    program: Program, path: Curve, stream: Iterable[Batch], plan: Mapping[str, Planned]
) -> dict[str, Any]:
    return measure_path(program, path, stream, plan, chunk=chunk_for(jax.default_backend()))


def _caller_features(program: Program) -> dict[str, str]:
    """The names that the caller gave to features (n, ...), in the order of computation."""
    names: dict[str, list[str]] = {}
    for alias, node in program.aliases:
        names.setdefault(node, []).append(alias)
    found = [node for node in program.nodes if node.named and node.sample_axis == 0]
    return {name: "feature" for node in found for name in (*names.get(node.name, ()), node.name)}


def _without_samples(program: Program) -> dict[str, str]:
    return {
        node.name: f"expected one row for each sample; found shape {node.shape}"
        for node in program.nodes
        if node.named and node.sample_axis != 0
    }
