"""All measures of one pair, along its path and along corrected ones, as `results.json` has them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from llfc_jax.corrections.correction import Correction, corrected_paths
from llfc_jax.errors import UserError
from llfc_jax.matching.leaves import by_path, check_finite
from llfc_jax.measures.evaluation import logits_shape
from llfc_jax.measures.measure import TEST, TRAIN, Measure, Options, build, measure_along
from llfc_jax.path.curves import Curve
from llfc_jax.path.examples import Examples, NumExamples, masked_batches, over_devices, with_classes
from llfc_jax.path.integers import check_integers_unread
from llfc_jax.path.interpolation import alpha_grid, check_same_structure, weights_apart
from llfc_jax.path.masks import of_samples
from llfc_jax.path.traversal import chunk_for
from llfc_jax.program.nodes import Program
from llfc_jax.results import PathKey
from llfc_jax.results.schema import SCHEMA_VERSION
from llfc_jax.types import Batch, Variables

Data = Iterable[Examples] | Mapping[str, Iterable[Examples]]


def measure_pair(
    program: Program,
    a: Variables,
    b: Variables,
    batches: Data,
    *,
    measures: Sequence[str | Measure],
    options: Options,
    corrections: Sequence[Correction],
    name: str,
    num_examples: NumExamples | None = None,
    curve: Curve | None = None,
) -> dict[str, Any]:
    """See `llfc_jax.measure`."""
    check_same_structure(a, b)
    for end, network in (("A", a), ("B", b)):
        check_finite(by_path(network), end)
    if curve is not None:
        _check_ends(curve, a, b)
    data = _splits(batches)
    taken = _ordered(measures, options)
    if corrections and TRAIN not in data:
        raise UserError(
            "batches: expected {'test': ..., 'train': ...}, as corrections are estimated on training data; "
            "found one stream"
        )
    counts: dict[str, int] = {}
    classified = _labelled(taken) and options.loss_fn is None
    logits = logits_shape(program.outputs) if classified else ()

    def stream(split: str) -> Iterator[Batch]:
        seen = 0
        found: Iterable[Batch] = masked_batches(
            data[split](), labelled=_labelled(taken), num_examples=num_examples, divide=True
        )
        for batch in with_classes(found, logits[-1], len(logits) - 2) if logits else found:
            if not seen:
                check_integers_unread(program.features_fn, a, b, batch.images)
            seen += int(of_samples(np.asarray(batch.mask)).sum())
            yield batch
        counts[split] = seen

    def shared(split: str) -> Iterator[Batch]:
        return over_devices(stream(split), num_examples)

    alphas = sorted({*alpha_grid(options.num_alphas), *options.alphas})

    def training(_: str) -> Iterator[Batch]:
        found = masked_batches(data[TRAIN](), labelled=False, num_examples=num_examples)
        return over_devices(found, num_examples)

    results: dict[str, Any] = {"weights": {}}
    for one in filter(None, (Curve(a, b), curve)):
        plain = PathKey.parse("a-b")._replace(curve="" if one.is_line else one.kind)
        results["weights"][str(plain)] = weights_apart(a, b)
        for correction, (path, mend) in corrected_paths(program, one, alphas, corrections, training).items():
            key = str(plain._replace(correction=correction))
            chunk = chunk_for(jax.default_backend())
            found = measure_along(program, path, shared, taken, tuple(data), correct=mend, chunk=chunk)
            for entry, result in found.items():
                results.setdefault(entry, {})[key] = result
    return _described(program, a, name, counts, logits[-1:]) | results


def _check_ends(curve: Curve, a: Variables, b: Variables) -> None:
    for name, end, network in (("a", curve.a, a), ("b", curve.b, b)):
        check_same_structure(network, end)
        pairs = zip(jax.tree.leaves(network), jax.tree.leaves(end), strict=True)
        if not all(np.array_equal(x, y) for x, y in pairs):
            raise UserError(f"curve: expected one between a and b; found another end than {name}")
    if curve.is_line:
        raise UserError("curve: expected what `train_curve` returns; found the line, measured anyway")


def _splits(batches: Data) -> dict[str, Callable[[], Iterable[Examples]]]:
    """Split -> what starts its stream; one stream alone is test data."""
    found = dict(batches) if isinstance(batches, Mapping) else {TEST: batches}
    if TEST not in found or not found.keys() <= {TEST, TRAIN}:
        raise UserError(f"batches: expected test, and perhaps train; found {', '.join(map(str, found))}")
    return {split: _restarted(split, stream) for split, stream in found.items()}


def _restarted(split: str, stream: Iterable[Examples]) -> Callable[[], Iterable[Examples]]:
    used = False

    def start() -> Iterable[Examples]:
        nonlocal used
        if used and isinstance(stream, Iterator):
            raise UserError(
                f"batches: expected {split} batches that can be read again, such as a list; found an iterator"
            )
        used = True
        return stream

    return start


def _ordered(measures: Sequence[str | Measure], options: Options) -> tuple[Measure, ...]:
    """Those of the registry in its order, then the caller's own in theirs."""
    named = [one for one in measures if isinstance(one, str)]
    own = [one for one in measures if isinstance(one, Measure)]
    return (*build(named, options), *own)


def _labelled(measures: Sequence[Measure]) -> bool:
    return any(one.labelled for one in measures)


def _described(
    program: Program, variables: Variables, name: str, counts: Mapping[str, int], classes: Sequence[int]
) -> dict[str, Any]:
    """What the report wants to know besides."""
    examples = {split: counts.get(split, 0) for split in (TEST, TRAIN)}
    return {
        "schema_version": SCHEMA_VERSION,
        "command": "llfc_jax.measure",
        "config": {"name": name},
        "data": {
            "name": "batches",
            "train_examples": examples[TRAIN],
            "test_examples": examples[TEST],
            "measured_train_examples": examples[TRAIN],
            **dict(zip(("num_classes",), classes, strict=False)),
            "fingerprint": "",
        },
        "model": {
            "name": name,
            "parameters": sum(np.size(leaf) for leaf in jax.tree.leaves(variables)),
            "stages": [node.name for node in program.nodes],
            **({"skipped": program.unmeasured} if program.unmeasured else {}),
        },
    }
