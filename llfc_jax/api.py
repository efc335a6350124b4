"""The library: what the command measures, for any pure function of any pytree.

A network is two things here: its variables, a pytree of arrays, and `apply(variables, inputs)`, which returns
its logits. Whatever a framework keeps elsewhere (the graph of NNX, the static part of Equinox) goes into the
closure of `apply`.

Example:
    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> rngs = nnx.Rngs(0)
    >>> model = nnx.Sequential(nnx.Linear(8, 16, rngs=rngs), nnx.relu, nnx.Linear(16, 3, rngs=rngs))
    >>> graph, state = nnx.split(model)
    >>> spec = permutation_spec(lambda state, x: nnx.merge(graph, state)(x), state, jnp.ones((2, 8)))
    >>> print(describe(spec).splitlines()[1])
    P0 (16): layers[0]/bias.value[0], layers[0]/kernel.value[1], layers[2]/kernel.value[0]

With Equinox, `params, static = eqx.partition(model, eqx.is_array)` gives the variables, and `apply` is
`lambda params, x: jax.vmap(eqx.combine(params, static))(x)`.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax

from llfc_jax import matching, symmetry
from llfc_jax import results as results_module
from llfc_jax.arguments import checked
from llfc_jax.corrections import merging
from llfc_jax.corrections.correction import Correction
from llfc_jax.errors import UserError
from llfc_jax.matching import MatchInfo, alignment
from llfc_jax.matching.alignment import Aligned
from llfc_jax.matching.leaves import by_path, check_finite
from llfc_jax.matching.problem import Matcher
from llfc_jax.measures import STANDARD
from llfc_jax.measures.evaluation import LossFn, cross_entropy, logits_shape
from llfc_jax.measures.llfc import baseline, join, llfc
from llfc_jax.measures.lmc import lmc
from llfc_jax.measures.measure import Measure, Options
from llfc_jax.measures.pair import Data, measure_pair
from llfc_jax.measures.plane import plane_through, scan
from llfc_jax.path import interpolation
from llfc_jax.path.bending import bend
from llfc_jax.path.curves import Curve
from llfc_jax.path.examples import Examples, NumExamples, inputs_alone, masked_batches, with_classes
from llfc_jax.path.integers import check_integers_unread
from llfc_jax.path.traversal import Planned, chunk_for, measure_path
from llfc_jax.program import reading
from llfc_jax.program.features import NamedFeatures, WithoutFeatures, chosen
from llfc_jax.program.nodes import FeaturesFn, Program, outputs_of
from llfc_jax.program.reading import read_features
from llfc_jax.storage import files
from llfc_jax.symmetry import PermutationSpec
from llfc_jax.types import Array, Batch, Permutation, PRNGKey, PyTree, Variables

__all__ = [
    "activation_matching",
    "align",
    "alpha_grid",
    "apply_permutation",
    "check_equivalence",
    "describe",
    "evaluate_path",
    "evaluate_plane",
    "learned_matching",
    "lerp",
    "measure",
    "measure_features",
    "merge_many",
    "permutation_spec",
    "procrustes_matching",
    "read",
    "report",
    "simultaneous_matching",
    "straight_through",
    "symmetries",
    "train_curve",
    "universe_matching",
    "weight_matching",
]

alpha_grid = checked(interpolation.alpha_grid)
lerp = checked(interpolation.lerp)
permutation_spec = checked(symmetry.permutation_spec)
apply_permutation = checked(symmetry.apply_permutation)
check_equivalence = checked(symmetry.check_equivalence)
weight_matching = checked(matching.weight_matching)
straight_through = checked(matching.straight_through)
symmetries = checked(symmetry.symmetries)
procrustes_matching = checked(matching.procrustes_matching)
learned_matching = checked(matching.learned_matching)
universe_matching = checked(matching.universe_matching)
simultaneous_matching = checked(matching.simultaneous_matching)
read = checked(reading.read)


def describe(spec: PermutationSpec | Program) -> str:
    """A network's symmetries, or its program, as text.

    Args:
        spec: from `permutation_spec`, or from `read`.

    Raises:
        UserError: it is neither.

    Example:
        >>> import jax.numpy as jnp
        >>> print(describe(read(lambda w, x: jnp.tanh(x @ w), jnp.ones((3, 2)), jnp.ones((4, 3)))))
        2 nodes; * stands for samples
        weights  dense  (*, 2)  input    weights
        tanh1    tanh   (*, 2)  weights
    """
    return str(spec) if isinstance(spec, Program) else checked(symmetry.describe)(spec)


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


def report(results: Mapping[str, Any], directory: str | Path) -> Path:
    """Figures, tables and one self-contained page of what `measure` found.

    Args:
        results: from `measure`, of test and training batches both if loss and error were measured.
        directory: gets `results.json`, `figures/`, `layers.csv`, `curves.csv` and `report.html`.

    Returns:
        The page.

    Raises:
        UserError: the results lack something, or the directory can't be written.
    """
    from llfc_jax.reporting import writing  # what it draws with takes long to import

    where = Path(directory).expanduser()
    results_module.check(files.plain(results))
    with files.writing(where):
        where.mkdir(parents=True, exist_ok=True)
        files.write_json(where / writing.RESULTS, results)
    return writing.write_report(where)


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
    program, stream = _start(
        chosen(WithoutFeatures(apply), output), (a, b), masked_batches(batches, num_examples=num_examples)
    )
    stream = _labelled(program, stream, loss_fn)
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
    program, stream = _start(
        NamedFeatures(apply_with_features),
        (a, b),
        masked_batches(batches, labelled=False, num_examples=num_examples),
    )
    layers = _caller_features(program)
    if not taken:
        raise UserError("alphas: expected one at least; found none")
    skipped = dict(program.skipped) | _without_samples(program)
    if not layers:
        why = ", ".join(f"{name}: {reason}" for name, reason in skipped.items())
        raise UserError("features: expected one at least; found none" + (f" ({why})" if why else ""))
    plan = {"llfc": Planned(llfc(layers), taken), "baseline": Planned(baseline(layers, taken), (0.0,))}
    found = _measure(program, Curve(a, b), stream, plan)
    return {
        "alphas": taken,
        "layers": join(found["llfc"], found["baseline"]),
        "skipped": skipped,
    }


@checked
def activation_matching(
    key: PRNGKey,
    spec: PermutationSpec,
    a: Variables,
    b: Variables,
    *,
    apply: Callable[[Variables, Any], PyTree],
    batches: Iterable[Examples],
    statistic: str = "correlation",
    num_examples: NumExamples | None = None,
) -> tuple[Permutation, MatchInfo]:
    """The permutation of B whose units vary together with A's over data (Li et al. 2016, arXiv 1511.07543).

    Args:
        key: unused: there is nothing to draw.
        spec: from `permutation_spec(apply, ...)`.
        a: variables of A.
        b: variables of B.
        apply: variables, inputs -> logits, in evaluation mode; pure.
        batches: see `llfc_jax.path.examples.Examples`; labels are not looked at, and may be left out. Of an
            example that counts all positions do, also those that a mask hides.
        num_examples: for inputs whose first axis doesn't count examples, see `evaluate_path`.
        statistic: `correlation`, or `covariance` (Git Re-Basin, section 3.1, without subtracting means).

    Returns:
        The permutation, for `apply_permutation(spec, permutation, b)`, and how it was found: see
        `llfc_jax.matching.activation_matching`.

    Raises:
        UserError: an unknown statistic, no data, a batch that is not one, a spec that doesn't fit, or an
            activation that is NaN or infinite.
    """
    return matching.activation_matching(
        key, spec, a, b, apply=apply, batches=inputs_alone(batches, num_examples), statistic=statistic
    )


@checked
def align(
    network: Program | Callable[[Variables, Any], PyTree],
    a: Variables,
    b: Variables,
    batches: Iterable[Examples],
    *,
    method: str | Matcher = "weight_matching",
    seed: int = 0,
    loss: Callable[[Variables, Batch], Array] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Aligned:
    """Move B along its symmetries so that it lies in A's basin, and check on data that it is still B.

    Args:
        network: from `read`, or an `apply(variables, inputs)` in evaluation mode; pure.
        a: variables of A.
        b: variables of B.
        batches: any iterable of `llfc_jax.path.examples.Examples` that can be read again, such as a list;
            labels are looked at by `straight_through` and `learned_matching`, and may be left out for others.
        method: `weight_matching`, `activation_matching`, `commutativity_matching`, `straight_through`, which
            permute units; `procrustes_matching`, `learned_matching`, which also scale, turn and map them; or
            a `llfc_jax.matching.problem.Matcher` of your own.
        seed: of what the method draws.
        loss: variables, `llfc_jax.types.Batch` -> mean loss, for those that look at labels; by default the
            cross-entropy of the logits. With BatchNorm better that of the training mode.
        options: for the method, among those of `llfc_jax.matching.alignment.DEFAULTS`.

    Returns:
        `variables` of B, moved; the `permutation`, or None; `info` and `summary` of how it was found.

    Raises:
        UserError: A and B differ in structure, one has a NaN, `network` is not deterministic, the method or
            an option is unknown, moving B changes its outputs, or a batch is not one or there is none.

    Example:
        >>> import jax.numpy as jnp
        >>> weights = {"in": jnp.arange(9.0).reshape(3, 3), "out": jnp.ones((3, 2))}
        >>> swapped = {"in": weights["in"][:, ::-1], "out": weights["out"]}
        >>> apply = lambda w, x: jax.nn.relu(x @ w["in"]) @ w["out"]
        >>> align(apply, weights, swapped, [jnp.eye(3)]).permutation
        {'P0': Array([2, 1, 0], dtype=int32)}
    """
    apply = partial(outputs_of, network) if isinstance(network, Program) else network
    if isinstance(batches, Iterator):
        raise UserError("batches: expected some that can be read again, such as a list; found an iterator")
    taken = dict(options or {})
    if isinstance(method, str) and (unknown := taken.keys() - alignment.DEFAULTS.keys()):
        known = ", ".join(alignment.DEFAULTS)
        raise UserError(f"options: expected names among {known}; found {sorted(unknown)[0]!r}")
    return alignment.align(
        jax.random.key(seed),
        a,
        b,
        method=method,
        apply=apply,
        loss=loss or partial(cross_entropy, apply),
        batches=lambda: masked_batches(batches),
        inputs=lambda: inputs_alone(batches),
        options={**alignment.DEFAULTS, **taken},
    )


@checked
def merge_many(
    networks: Sequence[Variables],
    weights: Sequence[float] | None = None,
    *,
    correction: Correction | None = None,
    program: Program | None = None,
    batches: Iterable[Examples] = (),
) -> Variables:
    """The weighted mean of several networks, whose statistics or units may be corrected.

    Put their units into one order first: `universe_matching`.

    Args:
        networks: of one structure, running statistics included.
        weights: one each, of which only the ratios count; equal if left out.
        correction: such as `llfc_jax.corrections.batchnorm.recompute(apply_train)`, or
            `llfc_jax.corrections.repair.repair(program)`: units then have the weighted mean of the networks'
            means and standard deviations.
        program: from `read`; for a correction.
        batches: training data that can be read again, see `llfc_jax.path.examples.Examples`; for the
            same.

    Raises:
        UserError: the networks differ in structure, there is not one weight for each, or a correction lacks
            the program or batches.

    Example:
        >>> import jax.numpy as jnp
        >>> merge_many([{"w": jnp.zeros(2)}, {"w": jnp.ones(2)}, {"w": jnp.full(2, 5.0)}])
        {'w': Array([2., 2.], dtype=float32)}
    """
    if correction is None:
        return interpolation.mean(networks, weights)
    if program is None:
        raise UserError("program: expected what `read` returns, as there is a correction; found None")
    if isinstance(batches, Iterator):
        raise UserError("batches: expected some that can be read again, such as a list; found an iterator")
    return merging.merged(
        networks, weights, correction, program, lambda: masked_batches(batches, labelled=False)
    )


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
    apply = partial(outputs_of, network) if isinstance(network, Program) else network
    if isinstance(batches, Iterator):
        raise UserError("batches: expected some that can be read again, such as a list; found an iterator")
    program, _ = _start(WithoutFeatures(apply), (a, b), masked_batches(batches))
    curve, _ = bend(
        jax.random.key(seed),
        a,
        b,
        kind=kind,
        loss_fn=loss or partial(cross_entropy, apply),
        batches=lambda: _labelled(program, masked_batches(batches), loss),
        steps=steps,
        learning_rate=learning_rate,
    )
    return curve


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
    program, stream = _start(WithoutFeatures(apply), (a, b, c), masked_batches(batches))
    return scan(plane, apply, _labelled(program, stream, loss_fn), size, loss_fn=loss_fn)


def _start(
    features_fn: FeaturesFn, networks: Sequence[Variables], stream: Iterator[Batch]
) -> tuple[Program, Iterator[Batch]]:
    """What the networks are like on the first batch, and the stream with this batch still in it."""
    for name, network in zip("ABC", networks, strict=False):
        check_finite(by_path(network), name)
    first, (a, *others) = next(stream), networks
    for other in others:
        check_integers_unread(features_fn, a, other, first.images)
    program = read_features(features_fn, a, first.images, first.mask.shape)
    return program, itertools.chain([first], stream)


def _measure(
    program: Program, path: Curve, stream: Iterable[Batch], plan: Mapping[str, Planned]
) -> dict[str, Any]:
    return measure_path(program, path, stream, plan, chunk=chunk_for(jax.default_backend()))


def _labelled(
    program: Program, stream: Iterator[Batch], loss_fn: Callable[..., Array] | None
) -> Iterator[Batch]:
    """The same batches, whose labels are found to be classes, unless the loss is one of the caller's own."""
    if loss_fn is not None:
        return stream
    logits = logits_shape(program.outputs, program.counted[0])
    return with_classes(stream, logits[-1], len(logits) - 2)


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
