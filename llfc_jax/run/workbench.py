"""The data and the network of a run, put together."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, lru_cache, reduce
from operator import getitem

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict, FrozenConfigDict

from llfc_jax import data, models
from llfc_jax.corrections.correction import Correction
from llfc_jax.data.batches import batches, full_batches, num_batches
from llfc_jax.data.memory import allowed_bytes, held_if_small
from llfc_jax.errors import UserError
from llfc_jax.matching.moved import chosen_classes
from llfc_jax.models.model import Model
from llfc_jax.results import NetworkKey
from llfc_jax.run import configuration, pair
from llfc_jax.runtime import environment, progress, sharding
from llfc_jax.symmetry import symmetries
from llfc_jax.training import lineage, optimizers
from llfc_jax.training.noise import renewed
from llfc_jax.types import Array, Batch, Features, PRNGKey, PyTree, Variables

ALIGN_STREAM, AS_IN_TRAINING_STREAM, SAMPLE_STREAM, CURVE_STREAM, STAR_STREAM = range(1_000, 1_005)
"""What the seed is folded with; beyond the streams of the lineages."""

_IN_CACHE = 32
"""Images at a time whose maps stay in a CPU's cache from layer to layer: a sixth faster than 128, in less
memory; with fewer, theta_alpha of a wide network takes longer than its layers."""

_LAST_STEP = 2**31 - 1
"""Steps are counted in 32 bits."""

_OF_OPTIMIZER = "opt", "train.epochs", "train.batch_size"
"""What an optimizer is made of, besides the number of examples."""

_augmented = jax.jit(data.augment)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Pipeline:
    """From raw images or text to logits; runs that share one share their compiled programs."""

    network: Model
    is_text: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """By which images are normalised."""
    augments_images: bool
    """Whether training sees other images than the data; of a text it sees the same, cut elsewhere."""
    crops_as_it_reads: bool = False
    """Whether these come so from the files, of which every batch cuts its own."""

    def preprocess(self, images: Array) -> Array:
        """Raw images -> inputs of the network, which takes a text as it is."""
        return images if self.is_text else data.normalise(images, self.mean, self.std)

    def preprocess_train(self, key: PRNGKey, images: Array) -> Array:
        """The same in training, with augmentation where it is on."""
        return self.preprocess(data.augment(key, images) if self.augments_on_device else images)

    @property
    def augments_on_device(self) -> bool:
        """Whether images that training sees are made of those in the batches."""
        return self.augments_images and not self.crops_as_it_reads

    def apply(self, variables: Variables, images: Array) -> Array:
        """Raw images -> logits."""
        return self.network.apply(variables, self.preprocess(images))

    def apply_with_features(self, variables: Variables, images: Array) -> tuple[Array, Features]:
        """Raw images -> logits and the features that have names."""
        return self.network.apply_with_features(variables, self.preprocess(images))

    @cached_property
    def recompute(self) -> Correction | None:
        """Re-estimates running statistics on raw images; None for a network that has none."""
        return self.network.recompute(self.preprocess)

    def loss(self, variables: Variables, batch: Batch) -> Array:
        """Mean cross-entropy of a batch of images or text, BatchNorm using the statistics of the batch."""
        inputs = self.preprocess(batch.images)
        return _cross_entropy(self.network.apply_train(variables, inputs, key=None)[0], batch)

    def loss_of(self, apply: Callable[[Variables, Array], Array]) -> Callable[[Variables, Batch], Array]:
        """The same of another network, raw images -> logits, as it is after training."""
        return lambda variables, batch: _cross_entropy(apply(variables, batch.images), batch)


def _cross_entropy(logits: Array, batch: Batch) -> Array:
    """Mean over the examples that count."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
    losses = losses.mean(axis=range(1, losses.ndim))  # of the tokens of a block
    return jnp.vdot(losses, batch.mask) / batch.mask.sum()


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Workbench:
    """The data, the network and how it is trained, put together."""

    config: ConfigDict
    dataset: data.Dataset
    pipeline: Pipeline
    measured: Mapping[str, data.Examples]
    """`train` and `test`: the examples that measures see."""
    optimizer: optax.GradientTransformation
    schedule: optimizers.Schedule
    lineages: tuple[lineage.Lineage, ...]
    """To train; none where the networks are given."""
    given: pair.Given
    """`a` and `b` from the files of `config.pair`; else empty."""
    only: Mapping[str, "Workbench"] = dataclasses.field(default_factory=dict)
    """By which single networks are trained that have something of their own, in `config.only`."""

    def of(self, name: str) -> "Workbench":
        """By which a network is trained."""
        return self.only.get(NetworkKey.parse(name).name, self)

    @property
    def network(self) -> Model:
        """What is trained."""
        return self.pipeline.network

    @property
    def families(self) -> tuple[tuple[str, ...], ...]:
        """The networks to compare with each other, by name: a, b, ...; several families in a sweep."""
        return lineage.families(self.config.train)

    @property
    def as_aligned(self) -> list[str]:
        """The networks of the first family, as they were moved if they were."""
        first, *others = self.families[0]
        moved = self.config.align.method != "none"
        return [first, *(map(lineage.aligned_name, others) if moved else others)]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one image, or of one block of text."""
        return self.dataset.train.shape

    @property
    def inputs(self) -> jax.ShapeDtypeStruct:
        """Of the network, for one example."""
        return _inputs(self.dataset)

    @property
    def eval_batch_size(self) -> int:
        """`eval.batch_size` at most; no more than the largest split has, which would only be padding."""
        largest = max(split.size for split in (*self.measured.values(), self.dataset.test))
        in_cache = self.network.convolutional and jax.default_backend() == "cpu"
        return min(self.config.eval.batch_size, largest, _IN_CACHE if in_cache else largest)

    def as_in_training(self, examples: data.Examples, batch_size: int, passes: int = 1) -> Iterator[Batch]:
        """The full batches of raw images as training sees them, augmented where it augments.

        What is estimated on training data, or decided by it, is about the distribution that the networks were
        trained on: crops padded with black change the statistics of every layer. Each batch is a function of
        the seed and its index alone, so that every network sees the same images; several passes, each with
        crops of its own, make more of few images.
        """
        key = jax.random.fold_in(jax.random.key(self.config.seed), AS_IN_TRAINING_STREAM)
        for index, batch in enumerate(full_batches(examples, batch_size, passes, key)):
            if self.pipeline.augments_on_device:
                images = _augmented(jax.random.fold_in(key, index), batch.images)
                batch = batch._replace(images=sharding.shard_batch(images))
            yield batch

    def alignment_key(self) -> PRNGKey:
        """What alignment draws from."""
        return jax.random.fold_in(jax.random.key(self.config.seed), ALIGN_STREAM)

    def alignment_data(self) -> Callable[[], Iterator[Batch]]:
        """Starts a stream over the training data that alignment looks at."""
        examples = self.some_training_data(self.config.align.examples)
        batch_size = min(self.config.train.batch_size, examples.size)
        return lambda: self.as_in_training(examples, batch_size)

    def some_training_data(self, examples: int) -> data.Examples:
        """A random subset of the training data, always the same; all of it for 0 or too many."""
        train = self.dataset.train
        return data.subset(train, min(examples, train.size), self.config.seed)


def prepare(config: ConfigDict, network: Model | None = None, like: Workbench | None = None) -> Workbench:
    """Load the data, build the network, and plan the training or load the networks of `config.pair`.

    Args:
        config: of the command.
        network: what to train in place of `config.model`.
        like: of another run, of which data and network are taken where the same is asked for: nothing is
            then read again.

    Raises:
        UserError: one of them can't be had, or they don't fit each other or the machine.
    """
    if jax.device_count() % config.fsdp:
        raise UserError(
            f"config.fsdp: expected a divisor of {jax.device_count()} (the devices); found {config.fsdp}"
        )
    trains = config.pair.a is None
    files = {} if trains else pair.files(config)
    if like is not None and _is_alike(like, config, "data"):
        dataset = like.dataset
    else:
        with progress.bar(f"read {config.data.name}", total=None):
            dataset = data.load(config.data)
    examples = dataset.train.size
    if trains and config.train.batch_size > examples:
        raise UserError(
            f"config.train.batch_size: expected {examples} (the training data) at most; "
            f"found {config.train.batch_size}"
        )
    if trains and config.train.batch_size % jax.device_count():
        raise UserError(
            f"config.train.batch_size: expected a multiple of {jax.device_count()} (the devices); "
            f"found {config.train.batch_size}"
        )
    steps_per_epoch = examples // config.train.batch_size
    if trains and config.train.epochs * steps_per_epoch > _LAST_STEP:
        raise UserError(
            f"config.train.epochs: expected {_LAST_STEP // steps_per_epoch} at most, of {steps_per_epoch} "
            f"steps; found {config.train.epochs}"
        )
    optimizer, schedule = _optimizer(FrozenConfigDict(config.opt), config.train.epochs * steps_per_epoch)
    image = dataset.train.shape
    shared = like.pipeline if like is not None and _is_alike(like, config, "data", "model", "pair") else None
    if shared is not None:
        network = shared.network
    elif network is None:
        models.check_kind(config.model.name, dataset.is_text)
        network = models.make(config.model, image, dataset.num_classes)
    _check_memory(config, network, network.shapes(_inputs(dataset)), optimizer if trains else None)
    given: pair.Given = {}
    if not trains:
        network, given = pair.load(config, files, network, image, dataset.num_classes)
    augments = config.data.augment and not dataset.is_text
    pipeline = shared or _pipeline(
        network, dataset.is_text, dataset.mean, dataset.std, augments, dataset.train.is_cropped_anew
    )
    if like is not None and _is_alike(like, config, "data", "eval.train_examples", "seed"):
        measured = like.measured
    else:
        some = data.subset(dataset.train, min(config.eval.train_examples, examples), config.seed)
        measured = {"train": held_if_small(some, allowed_bytes(config.data.memory)), "test": dataset.test}
    lineages = lineage.plan(config.train, steps_per_epoch) if trains else ()
    bench = Workbench(config, dataset, pipeline, measured, optimizer, schedule, lineages, given)
    bench = dataclasses.replace(bench, only={name: _single(bench, name, like) for name in config.only})
    if config.align.classes:
        _check_classes(bench)
    if config.train.fresh:
        _check_fresh(bench)
    return bench


# What is the same for several runs of a process is one object: they share their compiled programs.
_optimizer, _pipeline = lru_cache(maxsize=8)(optimizers.build), lru_cache(maxsize=8)(Pipeline)


def _single(bench: Workbench, name: str, like: Workbench | None) -> Workbench:
    """By which a network is trained that has something of its own: as many steps, images normalised alike.

    Raises:
        UserError: its data can't be had, or are less than a batch.
    """
    config = configuration.of_network(bench.config, name)
    if like is not None and _is_alike(like, bench.config, "only", "data", "model", *_OF_OPTIMIZER):
        return dataclasses.replace(like.only[name], config=config, measured=bench.measured)
    dataset, given = bench.dataset, bench.dataset
    if not _is_alike(bench, config, "data"):
        try:
            dataset = data.load(config.data)._replace(mean=given.mean, std=given.std, test=given.test)
        except UserError as error:
            raise UserError(f"config.only.{name}.{error}") from error
    size, batch_size = dataset.train.size, config.train.batch_size
    if size < batch_size:
        raise UserError(
            f"config.only.{name}.data: expected train.batch_size={batch_size} examples at least; found {size}"
        )
    steps = config.train.epochs * (given.train.size // batch_size)
    optimizer, schedule = _optimizer(FrozenConfigDict(config.opt), steps)
    pipeline = dataclasses.replace(
        bench.pipeline,
        augments_images=config.data.augment and not dataset.is_text,
        crops_as_it_reads=dataset.train.is_cropped_anew,
    )
    return dataclasses.replace(
        bench, config=config, dataset=dataset, pipeline=pipeline, optimizer=optimizer, schedule=schedule
    )


def _check_classes(bench: Workbench) -> None:
    """That the network has the symmetries that it shall be moved by: known before it is trained."""
    found = symmetries(bench.pipeline.apply, bench.network.shapes(bench.inputs), bench.inputs)
    try:
        chosen_classes(found.foldable, bench.config.align.classes)
    except UserError as error:
        raise UserError(f"config.align.{error}") from error


def _check_fresh(bench: Workbench) -> None:
    """That the network has the layers that children shall begin anew."""
    params = bench.network.parameters(bench.network.shapes(bench.inputs))
    try:
        renewed(params, params, bench.config.train.fresh)
    except UserError as error:
        raise UserError(f"config.train.fresh: {error}") from error


def _is_alike(bench: Workbench, config: ConfigDict, *parts: str) -> bool:
    """Whether sections or fields of another configuration are those of the workbench's."""
    ours, theirs = bench.config.to_dict(), config.to_dict()
    return all(
        reduce(getitem, part.split("."), ours) == reduce(getitem, part.split("."), theirs) for part in parts
    )


def _inputs(dataset: data.Dataset) -> jax.ShapeDtypeStruct:
    raw = dataset.train
    return jax.ShapeDtypeStruct((1, *raw.shape), raw.dtype if dataset.is_text else jnp.float32)


def _check_memory(
    config: ConfigDict, network: Model, variables: Variables, optimizer: optax.GradientTransformation | None
) -> None:
    """That two networks fit into memory, and where there is any, the training of one: the least it takes."""
    parameters = network.parameters(variables)
    least = {"two networks of them take": 2 * _bytes(variables)}
    if optimizer is not None:
        state = variables, variables if config.opt.ema else (), jax.eval_shape(optimizer.init, parameters)
        least["training takes"] = _bytes((state, parameters))  # with their gradients
    (what, needed), there = max(least.items(), key=lambda item: item[1]), environment.memory_bytes()
    if jax.default_backend() != "cpu":  # whose devices share one memory
        there *= config.fsdp
    if needed > there:
        raise UserError(
            f"config.model: {models.count_parameters(parameters):,} parameters are too many: {what} "
            f"{needed / 2**30:,.1f} GiB at least, of {there / 2**30:,.1f} GiB that are there"
        )


def _bytes(shapes: PyTree) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))


def stream(examples: data.Examples, batch_size: int, label: str) -> Iterator[Batch]:
    """Batches under a progress bar."""
    return progress.track(batches(examples, batch_size), label, num_batches(examples, batch_size))


def training_stream(
    bench: Workbench, examples: data.Examples, batch_size: int, label: str, passes: int = 1
) -> Iterator[Batch]:
    """Batches as in training, under a progress bar."""
    seen = bench.as_in_training(examples, batch_size, passes)
    return progress.track(seen, label, passes * (examples.size // batch_size))
