"""What `results.json` holds, entry by entry.

Losses are in nats, errors fractions, times in seconds, angles in degrees; null stands for what is undefined.
Measures are keyed by path (see `results.keys`), and what explains LLFC is measured along plain paths alone.
`llfc_jax compare` writes the same, without what belongs to a single run. Replicates and sweeps have an
`Overview` of their runs, each of which has results of its own.
"""

from typing import Annotated, Any, NotRequired, TypeAlias, TypedDict

from llfc_jax.results.keys import NetworkKey, PathKey

SCHEMA_VERSION = 2
"""Raised when an entry changes its meaning, or one that the report needs is new."""

PARALLEL = "parallel"
"""Mark of a list with an entry for each of the `alphas`, or of the `epoch`s, beside or above it."""

FILLED = "filled"
"""Mark of a list that has an entry at least."""

Number: TypeAlias = float | None
Along: TypeAlias = Annotated[list[Number], PARALLEL]
"""Numbers parallel to the alphas."""
Alphas: TypeAlias = Annotated[list[float], FILLED]
"""Points on the path, rising, in [0, 1]."""
Network: TypeAlias = Annotated[str, NetworkKey.parse]
Path: TypeAlias = Annotated[str, PathKey.parse]


class Scores(TypedDict):
    """A network on one split."""

    loss: Number
    error: Number


class Splits(TypedDict):
    """A network on both splits."""

    test: Scores
    train: Scores


class Curves(TypedDict):
    """LMC on one split; there are no errors where the loss is one of the caller's own."""

    examples: int
    """How many were measured on."""
    labels: NotRequired[int]
    """How many they have together, where an example has several, as a sequence has: means are over these."""
    loss: Along
    error: NotRequired[Along]
    """Mistakes over `labels`, or `examples`, exactly."""
    perplexity: NotRequired[Along]
    """exp(loss), where an example has several labels."""
    loss_barrier: Number
    """max over alpha of L(theta_alpha) - ((1 - alpha) L(A) + alpha L(B))."""
    error_barrier: NotRequired[Number]
    loss_midpoint_gap: Number
    """L(theta_1/2) - (L(A) + L(B)) / 2."""
    error_midpoint_gap: NotRequired[Number]
    loss_excess_std: Along
    """Over examples, of what each one's loss exceeds its chord by: over the root of `examples`, the standard
    error of the excess at an alpha."""
    error_excess_std: NotRequired[Along]


class Lmc(TypedDict):
    """Loss and error along a path (`measures.lmc`)."""

    alphas: Alphas
    """From 0 to 1."""
    test: Curves
    train: Curves


class Spread(TypedDict):
    """Of a quantity over samples, at each alpha."""

    mean: Along
    std: Along


class Quartiles(Spread):
    """Also its quartiles, right to 7.5 % of themselves."""

    q25: Along
    median: Along
    q75: Along


class Whole(TypedDict):
    """Quantities of the whole (samples x features) matrices."""

    cosine_distance: Along
    coefficient: Along
    dist: Along


class Compared(TypedDict):
    """u compared with v at one layer (`measures.comparison`)."""

    layer: str
    kind: str
    """Of the layer: `dense`, `conv`, `norm`, `relu`, `pool`, `add`, ..."""
    cosine_distance: Quartiles
    """1 - cos(u, v)."""
    coefficient: Spread
    """<u, v> / ||v||^2."""
    dist: Spread
    """||u - v||^2 / (||u|| ||v||)."""
    dataset: Whole
    dead: Annotated[list[int], PARALLEL]
    """Samples without an angle, u or v being zero; they are left out."""


class Baseline(TypedDict):
    """1 - cos(f_A, f_B) at one layer."""

    mean: Number
    std: Number
    q25: Number
    median: Number
    q75: Number
    dataset: Number
    dead: int


class LlfcLayer(Compared):
    """u = f(theta_alpha), v = (1 - alpha) f_A + alpha f_B."""

    baseline: Baseline
    end: Spread
    """1 - cos(f_end, v) of the end that is nearer to v: LLFC's unit (`measures.llfc.baseline`)."""


class Llfc(TypedDict):
    """LLFC on the test split (`measures.llfc`)."""

    alphas: Alphas
    layers: Annotated[list[LlfcLayer], FILLED]


class WeakAdditivity(TypedDict):
    """Of every ReLU: u of the mean of its outputs, v its output at the mean (`measures.weak_additivity`)."""

    alphas: Alphas
    layers: Annotated[list[Compared], FILLED]


class Dist(TypedDict):
    """||x - y||^2 / (||x|| ||y||)."""

    mean: Number
    std: Number
    dataset: Number


class CommutativityLayer(TypedDict):
    """Of a linear layer with weights W and inputs H."""

    layer: str
    kind: str
    dist_com: Dist
    """Between W_A H_A + W_B H_B and W_A H_B + W_B H_A."""
    dist_w: Number
    """Between W_A and W_B."""
    dist_h: Dist
    """Between H_A and H_B."""
    dead: int


class Commutativity(TypedDict):
    """See `measures.commutativity`."""

    layers: Annotated[list[CommutativityLayer], FILLED]


class DeviationLayer(TypedDict):
    """Where delta = f(theta_alpha) - v comes from."""

    layer: str
    kind: str
    deviation: Along
    """||delta|| / ||v||."""
    scale: Along
    """||v|| per sample, root mean square."""
    norms: dict[str, Along]
    """Part -> ||part|| / ||v||: `propagated`, and what arises in the layer."""
    shares: dict[str, Along]
    """Part -> <part, delta> / ||delta||^2; they sum to one."""


class Deviation(TypedDict):
    """See `measures.deviation`."""

    alphas: Alphas
    layers: Annotated[list[DeviationLayer], FILLED]


class Stitched(TypedDict):
    """A stitched network; without an error where the loss is one of the caller's own."""

    loss: Number
    error: NotRequired[Number]


class StitchingLayer(TypedDict):
    """The network that is cut behind this layer, on the test split."""

    layer: str
    kind: str
    prefix_a: Stitched
    """A's layers up to this one, B's from here on."""
    prefix_b: Stitched


class Stitching(TypedDict):
    """See `measures.stitching`."""

    layers: Annotated[list[StitchingLayer], FILLED]


class AnglesLayer(TypedDict):
    """Principal angles between A's and B's leading singular subspaces, rising."""

    layer: str
    kind: str
    left: Annotated[list[Number], FILLED]
    """Of the outputs."""
    right: Annotated[list[Number], FILLED]
    """Of the inputs."""


class PrincipalAngles(TypedDict):
    """See `measures.spectra`."""

    top_k: int
    """Dimension of the subspaces."""
    layers: Annotated[list[AnglesLayer], FILLED]


class RankLayer(TypedDict):
    """Effective ranks of theta_alpha; only what the layer has."""

    layer: str
    kind: str
    features: NotRequired[Along]
    weights: NotRequired[Along]


class EffectiveRank(TypedDict):
    """See `measures.effective_rank`."""

    alphas: Alphas
    layers: Annotated[list[RankLayer], FILLED]


class BoundLayer(TypedDict):
    """Theorem 1 at one layer, relative to ||v||."""

    layer: str
    bound: Along
    deviation: Along
    holds: bool | None
    """At every alpha; null without a bound."""


class Theorem1(TypedDict):
    """See `measures.theory.theorem1`."""

    alphas: Alphas
    holds: bool | None
    layers: Annotated[list[BoundLayer], FILLED]


class Lemma1(TypedDict):
    """See `measures.theory.lemma1`."""

    bound: Number
    sum: Number
    measured: Number
    holds: bool


class Theory(TypedDict):
    """The paper's theory on measured networks."""

    theorem1: NotRequired[Theorem1]
    lemma1: NotRequired[Lemma1]


class LayerwiseLmcLayer(TypedDict):
    """Loss with this layer interpolated, or left out, the rest A's or theta_alpha's; and error."""

    layer: str
    kind: str
    alone: Number
    all_but: Number
    prefix: Number
    suffix: Number
    alone_error: Number
    all_but_error: Number
    prefix_error: Number
    suffix_error: Number


class LayerwiseLmc(TypedDict):
    """See `measures.layerwise_lmc`."""

    alpha: float
    layers: Annotated[list[LayerwiseLmcLayer], FILLED]


class SimilarityLayer(TypedDict):
    """Of theta_alpha's units with A's."""

    layer: str
    kind: str
    cka: Along
    angular_cka: Along
    procrustes: Along
    svcca: Along


class Similarity(TypedDict):
    """See `measures.similarity`."""

    alphas: Alphas
    layers: Annotated[list[SimilarityLayer], FILLED]


class VarianceLayer(TypedDict):
    """Of the variance between the ends."""

    layer: str
    kind: str
    ratio: Along


class Variance(TypedDict):
    """See `measures.variance`."""

    alphas: Alphas
    layers: Annotated[list[VarianceLayer], FILLED]


class LewcLayer(TypedDict):
    """u = f(theta_alpha), v = (1 - alpha)^depth f_A + alpha^depth f_B; means over samples."""

    layer: str
    kind: str
    depth: int
    distance: Along
    coefficient: Along
    dist: Along


class Lewc(TypedDict):
    """See `measures.lewc`."""

    alphas: Alphas
    layers: Annotated[list[LewcLayer], FILLED]


class ReciprocalLayer(TypedDict):
    """How its weights in A respond to B's features, and B's to A's."""

    layer: str
    kind: str
    a: Number
    b: Number


class ReciprocalOrthogonality(TypedDict):
    """See `measures.reciprocal_orthogonality`."""

    layers: Annotated[list[ReciprocalLayer], FILLED]


class Predictions(TypedDict):
    """See `measures.predictions`."""

    alphas: Alphas
    disagreement_a: Along
    disagreement_b: Along
    disagreement_ensemble: Along
    kl_a: Along
    kl_b: Along
    kl_ensemble: Along
    ensemble_loss: Along
    ensemble_error: Along


class Temperature(TypedDict):
    """See `measures.temperature`."""

    alphas: Alphas
    temperature: Along
    """With the least loss on the test set; that at an end of the range, 2^-22 or 2^10, is beyond it."""
    loss: Along
    recalibrated_loss: Along
    barrier: Number
    recalibrated_barrier: Number


class Rung(TypedDict):
    """What is left between A and B after a step (`matching.moved`)."""

    step: str
    """What B may be moved by: `as it was`, `permutations`, those and some classes, `learned`."""
    relative: Number
    """||theta_A - theta_B||, in units of sqrt(||theta_A|| ||theta_B||)."""
    loss: NotRequired[Number]
    """Of the midpoint, in nats, on the training data that was looked at; of methods that look at losses."""


class ConstraintRung(TypedDict):
    """The barrier with some of a network's constraints (`matching.failing`)."""

    added: str
    """The constraint that this rung adds; on the first there is none of those that can be loosened."""
    barrier: Number
    """Loss of the midpoint less the mean of the ends', in nats, on the training data that was looked at."""
    cost: Number
    """By how much it rose; on the first the barrier itself."""


class RandomDirection(TypedDict):
    """At A + alpha d, d as long as B - A: Gaussian, and by filters (`measures.random_direction`)."""

    alphas: Alphas
    random_loss: Along
    random_error: NotRequired[Along]
    filters_loss: Along
    filters_error: NotRequired[Along]


class SpectrumLayer(TypedDict):
    """Singular values of theta_alpha, falling, a list for each alpha; only what the layer has."""

    layer: str
    kind: str
    features: NotRequired[Annotated[list[list[Number]], PARALLEL]]
    weights: NotRequired[Annotated[list[list[Number]], PARALLEL]]


class SingularValues(TypedDict):
    """See `measures.singular_values`."""

    alphas: Alphas
    layers: Annotated[list[SpectrumLayer], FILLED]


class Sharpness(TypedDict):
    """Of the loss of the first training batch, in the weights of contractions (`measures.sharpness`)."""

    alphas: Alphas
    top: Along
    """The largest eigenvalue of the Hessian."""
    trace: Along
    trace_std_error: Along
    """Of the random vectors that the trace is estimated by."""
    parameters: Annotated[list[int], PARALLEL]


class Plane(TypedDict):
    """Loss and error on the test split, over the plane through three networks (`measures.plane`)."""

    networks: list[str]
    """Three: at the origin, to its right, above them. The last may be the bend of a curve, by its kind."""
    places: list[list[Number]]
    """Of the three, (x, y)."""
    x: list[float]
    y: list[float]
    """Distances in weights along and across the line through the first two."""
    loss: list[list[Number]]
    """Of each y, of each x."""
    error: list[list[Number]]
    loss_at_networks: list[Number]
    error_at_networks: list[Number]


class Alignment(TypedDict):
    """How B was moved towards A along symmetries (`matching.alignment`)."""

    method: str
    objective: list[Number]
    """Before the first sweep and after each; null where it turned NaN."""
    sweeps: NotRequired[int]
    converged: bool
    restart_objectives: NotRequired[list[Number]]
    equivalence_error: Number
    """How far the logits of B moved, relatively."""
    seconds: NotRequired[Number]
    permutations: NotRequired[dict[str, int]]
    """Name -> units."""
    classes: NotRequired[list[str]]
    """Kinds of symmetries that B could be moved by."""
    ladder: NotRequired[list[Rung]]
    constraints: NotRequired[list[ConstraintRung]]
    """Where alignment fails, where `align.ladder` asked for it; all costs sum to the last barrier."""
    description: str
    """Of the network's symmetries."""


class Samples(TypedDict):
    """What language models along a path write (`run.sampling`)."""

    alphas: Alphas
    prompt: str
    """What all go on from."""
    temperature: float
    texts: Annotated[list[str], PARALLEL]
    """Each drawn by the same random numbers."""


class Weights(TypedDict):
    """How far apart two networks are in what is interpolated."""

    distance: Number
    """||theta_A - theta_B||."""
    relative: Number
    """The same over the root of ||theta_A|| ||theta_B||; 0 for one and the same network."""


class History(TypedDict):
    """Of one stretch of training: parallel lists, an entry for each epoch that was evaluated."""

    epoch: list[float]
    step: Along
    learning_rate: Along
    train_loss: Along
    train_error: Along
    test_loss: Along
    test_error: Along


class Source(TypedDict):
    """Where an imported network came from."""

    file: str
    format: str
    sha256: str
    matched_by: str


class Data(TypedDict):
    """What was measured on."""

    name: str
    train_examples: int
    test_examples: int
    measured_train_examples: int
    num_classes: NotRequired[int]
    """By the logits, where losses and errors are taken of them."""
    mean: NotRequired[list[Number]]
    """By which images were normalised, as `std`."""
    std: NotRequired[list[Number]]
    fingerprint: str


class Model(TypedDict):
    """The architecture."""

    name: str
    parameters: int
    stages: list[str]
    skipped: NotRequired[dict[str, str]]
    """Features that were named and not measured, and why."""
    sha256: NotRequired[str]
    """Of the file of a network of the user's own."""


class Thresholds(TypedDict, total=False):
    """By which the report judges; argued in `report.judgement`."""

    max_error_barrier: float
    max_loss_barrier: float
    max_llfc: float
    chance: float
    confidence: float


class TrainConfig(TypedDict, total=False):
    """What the page says of training."""

    epochs: float | None


class Config(TypedDict):
    """The resolved configuration, of which the report reads these."""

    name: str
    train: NotRequired[TrainConfig]
    verdict: NotRequired[Thresholds]


class Results(TypedDict):
    """The whole file."""

    schema_version: int
    command: str
    """What the user typed."""
    environment: NotRequired[dict[str, Any]]
    """Versions, device, git commit."""
    config: Config
    sources: NotRequired[dict[Network, Source]]
    data: Data
    model: Model
    training: NotRequired[dict[Network, History]]
    alignment: NotRequired[dict[Path, Alignment]]
    endpoints: NotRequired[dict[Network, Splits]]
    weights: NotRequired[dict[Path, Weights]]
    samples: NotRequired[dict[Path, Samples]]
    lmc: NotRequired[dict[Path, Lmc]]
    llfc: NotRequired[dict[Path, Llfc]]
    weak_additivity: NotRequired[dict[Path, WeakAdditivity]]
    commutativity: NotRequired[dict[Path, Commutativity]]
    deviation: NotRequired[dict[Path, Deviation]]
    stitching: NotRequired[dict[Path, Stitching]]
    principal_angles: NotRequired[dict[Path, PrincipalAngles]]
    effective_rank: NotRequired[dict[Path, EffectiveRank]]
    theory: NotRequired[dict[Path, Theory]]
    layerwise_lmc: NotRequired[dict[Path, LayerwiseLmc]]
    similarity: NotRequired[dict[Path, Similarity]]
    variance: NotRequired[dict[Path, Variance]]
    lewc: NotRequired[dict[Path, Lewc]]
    reciprocal_orthogonality: NotRequired[dict[Path, ReciprocalOrthogonality]]
    predictions: NotRequired[dict[Path, Predictions]]
    temperature: NotRequired[dict[Path, Temperature]]
    random_direction: NotRequired[dict[Path, RandomDirection]]
    singular_values: NotRequired[dict[Path, SingularValues]]
    sharpness: NotRequired[dict[Path, Sharpness]]
    plane: NotRequired[Plane]
    seconds: NotRequired[dict[str, Number]]
    """Of the process that finished: `train`, `align`, `measure`."""
    peak_memory_bytes: NotRequired[Number]


class OverRuns(TypedDict):
    """Of a number over the runs of a group."""

    mean: Number
    std: Number
    """Of a sample, over n - 1; null of a single run."""
    each: list[Number]
    """In the order of the runs."""


class OverRunsAlong(TypedDict):
    """The same of numbers parallel to the alphas."""

    mean: Along
    std: Along
    each: list[Along]


class GroupLayer(TypedDict):
    """LLFC at one layer."""

    layer: str
    kind: str
    part: OverRuns
    """The distance from the line, in units of the nearer end's."""


class GroupMeasureLayer(TypedDict):
    """What a measure tells of one layer."""

    layer: str
    kind: str
    values: dict[str, OverRuns]


class GroupMeasure(TypedDict):
    """What a measure tells of a path: of its layers, or along it."""

    quantities: dict[str, str]
    """Number -> what figures and tables call it."""
    layers: NotRequired[Annotated[list[GroupMeasureLayer], FILLED]]
    layers_at: NotRequired[Number]
    """The alpha of the layers' numbers; null of those that compare A with B."""
    alphas: NotRequired[Alphas]
    along: NotRequired[dict[str, OverRunsAlong]]
    of_path: NotRequired[dict[str, OverRuns]]
    """Numbers of the whole path."""


class GroupPath(TypedDict):
    """One path in every run of a group."""

    lmc: list[str]
    """Each run's verdict, as in `reporting.judgement.Answer`; "not measured" without one."""
    llfc: list[str]
    quantities: dict[str, OverRuns]
    """`test_loss_barrier`, `train_error_barrier`, ...; `llfc_median`, `llfc_worst`, of the layers' parts."""
    alphas: NotRequired[Alphas]
    """Of the curves."""
    curves: NotRequired[dict[str, OverRunsAlong]]
    """`test_loss`, `test_error`, `train_loss`, `train_error`."""
    llfc_alpha: NotRequired[float]
    """At which LLFC is judged."""
    layers: NotRequired[Annotated[list[GroupLayer], FILLED]]
    measures: NotRequired[dict[str, GroupMeasure]]
    """Of the others than `lmc` and `llfc`, but for lists that are no numbers of layers or alphas."""


class Group(TypedDict):
    """Runs that differ in the seed alone."""

    fields: dict[str, Any]
    """What tells it from the other groups: dotted field of the configuration -> value."""
    runs: Annotated[dict[str, int], FILLED]
    """Name -> seed."""
    limits: dict[str, Number]
    """By which its runs are judged: `loss` and `error`, of barriers; `llfc`, of the layers' parts."""
    networks: dict[Network, dict[str, OverRuns]]
    """`test_loss`, `test_error`, `train_loss`, `train_error`."""
    paths: dict[Path, GroupPath]


class Overview(TypedDict):
    """`results.json` of many runs."""

    schema_version: int
    command: str
    config: Config
    """What the runs share, with `sweep`: field -> values as written."""
    groups: Annotated[list[Group], FILLED]
    diverged: NotRequired[dict[str, str]]
    """Runs that are in no group, as their training diverged -> how."""
