"""What papers have published, beside the runs that give it: a figure or a table is one line of the registry.

Only numbers that a paper's text or tables print are here; where a figure alone shows a result, what it shows
is in words.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

Results = Mapping[str, Any]


class Row(NamedTuple):
    """One quantity."""

    quantity: str
    find: Callable[[Results], float | None]
    """Results of a run -> the quantity, errors as fractions; None where it wasn't measured."""
    unit: str
    """`nats`, or `%`: of test images, of which a difference is in points; or `part`, a ratio."""
    published: str
    """As the source has it."""
    fields: Mapping[str, Any] = {}
    """Of a sweep: the values of the runs that it is of."""


class Reproduction(NamedTuple):
    """A figure or a table."""

    source: str
    title: str
    config: str
    rows: tuple[Row, ...]
    overrides: tuple[tuple[str, str], ...] = ()
    """Fields and values, as written on the command line."""
    sweep: tuple[str, ...] = ()
    """As written: FIELD=VALUE,VALUE."""
    scaled: str = "after a shorter training the ends are worse, and barriers of their own kind"
    """What a run with `--scale` below 1 can't show."""

    @property
    def paper(self) -> str:
        """Authors and year."""
        return self.source.partition(",")[0]


def barrier(path: str, quantity: str) -> Callable[[Results], float | None]:
    """The barrier of a path on the test set: `loss` or `error`."""

    def find(results: Results) -> float | None:
        return results["lmc"][path]["test"][f"{quantity}_barrier"]

    return find


def barrier_of_spawned(index: int, quantity: str) -> Callable[[Results], float | None]:
    """The barrier of a sweep's pairs on the test set: those of the first, second, ... spawn epoch."""

    def find(results: Results) -> float | None:
        pairs = [path for path in results["lmc"] if "/" not in path]
        return barrier(pairs[index], quantity)(results)

    return find


def end_error(results: Results) -> float:
    """The mean test error of the networks that were trained."""
    errors = [entry["test"]["error"] for name, entry in results["endpoints"].items() if len(name) == 1]
    return sum(errors) / len(errors)


def merged_error(results: Results) -> float:
    """The test error of the mean of all networks."""
    return float(results["endpoints"]["merged"]["test"]["error"])


def middle_error(path: str) -> Callable[[Results], float | None]:
    """The test error halfway on a path."""

    def find(results: Results) -> float | None:
        found = results["lmc"][path]
        return found["test"]["error"][found["alphas"].index(0.5)]

    return find


def commutativity(path: str) -> Callable[[Results], float | None]:
    """Dist_com over the lesser of Dist_W and Dist_H, at the worst layer."""

    def find(results: Results) -> float | None:
        layers = results["commutativity"][path]["layers"]
        others = [min(layer["dist_w"], layer["dist_h"]["mean"]) for layer in layers]
        pairs = zip(layers, others, strict=True)
        return max((layer["dist_com"]["mean"] / other for layer, other in pairs if other), default=None)

    return find


def weak_additivity(path: str) -> Callable[[Results], float | None]:
    """1 - cos at alpha = 1/2, at the worst ReLU."""

    def find(results: Results) -> float | None:
        found = results["weak_additivity"][path]
        middle = found["alphas"].index(0.5)
        return max((layer["cosine_distance"]["mean"][middle] for layer in found["layers"]), default=None)

    return find


def spectrum(path: str, what: str) -> Callable[[Results], float | None]:
    """The distance of theta_1/2's singular values from the ends' mean, a part of that, at the worst layer.

    Args:
        path: of the two networks.
        what: `features` or `weights`.
    """

    def find(results: Results) -> float | None:
        layers = [layer[what] for layer in results["singular_values"][path]["layers"] if what in layer]
        spectra = [np.asarray(layer) for layer in layers]
        parts = [np.linalg.norm(m - (a + b) / 2) / np.linalg.norm((a + b) / 2) for a, m, b in spectra]
        return max(map(float, parts), default=None)

    return find


def stitched(path: str, pick: Callable[[list[float]], float]) -> Callable[[Results], float | None]:
    """The least or the largest test error of the networks that are stitched of two."""

    def find(results: Results) -> float | None:
        layers = results["stitching"][path]["layers"]
        return pick([layer[way]["error"] for layer in layers for way in ("prefix_a", "prefix_b")])

    return find


def worst_layer(path: str) -> Callable[[Results], float | None]:
    """LLFC of the worst layer at alpha = 1/2: 1 - cos over that of the two networks' own features."""

    def find(results: Results) -> float | None:
        found = results["llfc"][path]
        middle = found["alphas"].index(0.5)
        parts = [
            layer["cosine_distance"]["mean"][middle] / layer["baseline"]["mean"]
            for layer in found["layers"]
            if layer["baseline"]["mean"]
        ]
        return max(parts, default=None)

    return find


_ZHOU = "Zhou et al. 2023, Going Beyond Linear Mode Connectivity (LLFC)"
_AINSWORTH = "Ainsworth et al. 2023, Git Re-Basin"
_JORDAN = "Jordan et al. 2023, REPAIR"
_FRANKLE = "Frankle et al. 2020, Linear Mode Connectivity and the Lottery Ticket Hypothesis"
_CRISOSTOMI = "Crisostomi et al. 2024, C2M3: Cycle-Consistent Multi-Model Merging"
_THEUS = "Theus et al. 2025, Generalized Linear Mode Connectivity for Transformers"
_FLAT, _CLOSE, _LOW = "0, by the figure", "close to 0, by the figure", "far below 1, by the figure"
_BY_WEIGHTS = {"align.method": "weight_matching"}
_BY_LEARNING = {"align.method": "learned_matching"}
_INDEPENDENT = (("train.pair", "independent"), ("measures", "lmc,llfc"))
_BY_UNIVERSE = {"align.method": "universe_matching"}
_NAIVE = {"align.method": "none"}
_PLAIN, _REPAIRED = {"corrections.repair": False}, {"corrections.repair": True}
_PAPERS_MLP = (
    ("opt.name", "adam"),
    ("opt.learning_rate", "1.2e-4"),
    ("opt.weight_decay", "0"),
    ("opt.schedule", "constant"),
    ("train.batch_size", "60"),
    ("train.epochs", "30"),
)


def _spawned(config: str, figure: str, overrides: tuple[tuple[str, str], ...] = ()) -> Reproduction:
    rows = (
        Row("loss barrier", barrier("a-b", "loss"), "nats", _FLAT),
        Row("error barrier", barrier("a-b", "error"), "%", _FLAT),
        Row("LLFC, worst layer, of the baseline", worst_layer("a-b"), "part", _CLOSE),
    )
    return Reproduction(
        _ZHOU, f"{figure}: features of a spawned pair are linear, too", config, rows, overrides
    )


def _permuted(config: str, figure: str, overrides: tuple[tuple[str, str], ...] = ()) -> Reproduction:
    aligned = "a-b_aligned"
    rows = (
        Row("loss barrier, naive", barrier("a-b", "loss"), "nats", "high, by the figure"),
        Row("… weight matching", barrier(aligned, "loss"), "nats", _FLAT),
        Row("LLFC, worst layer, of the baseline", worst_layer(aligned), "part", _CLOSE),
        Row("Dist_com of the lesser of Dist_W, Dist_H", commutativity(aligned), "part", _LOW),
    )
    title = f"{figure}: features of a pair are linear once it is permuted, as weights and features commute"
    return Reproduction(_ZHOU, title, config, rows, overrides)


def _causes(config: str, overrides: tuple[tuple[str, str], ...] = ()) -> Reproduction:
    rows = (
        Row("weak additivity, worst ReLU: 1 - cos", weak_additivity("a-b"), "part", _CLOSE),
        Row("Dist_com of the lesser of Dist_W, Dist_H", commutativity("a-b"), "part", _LOW),
        Row("singular values of features, from the ends'", spectrum("a-b", "features"), "part", ""),
        Row("… of weights", spectrum("a-b", "weights"), "part", ""),
    )
    measures = ("measures", "lmc,llfc,weak_additivity,commutativity,singular_values")
    title = "section 4, figures 20 to 22: weak additivity, commutativity and spectra of a spawned pair"
    return Reproduction(_ZHOU, title, config, rows, (*overrides, measures))


def _stitching(config: str, least: str, most: str) -> Reproduction:
    rows = (
        Row("error of the ends", end_error, "%", ""),
        Row("error after stitching, at the best layer", stitched("a-b", min), "%", least),
        Row("error after stitching, at the worst layer", stitched("a-b", max), "%", most),
    )
    return Reproduction(_ZHOU, "tables of stitching: a spawned pair", config, rows)


def _of_width(width: float, name: str, path: str, published: str) -> Row:
    row = f"loss barrier, {name}, width {width:g}"
    return Row(row, barrier(path, "loss"), "nats", published, {"model.width": width})


def _aligned_along_all(
    networks: str,
    config: str,
    naive: str,
    by_weights: str,
    learned: str,
    overrides: tuple[tuple[str, str], ...] = (("measures", "lmc,llfc"),),
) -> Reproduction:
    rows = (
        Row("loss barrier, naive", barrier("a-b", "loss"), "nats", naive, _BY_WEIGHTS),
        Row("… weight matching", barrier("a-b_aligned", "loss"), "nats", by_weights, _BY_WEIGHTS),
        Row("… learned matching", barrier("a-b_aligned", "loss"), "nats", learned, _BY_LEARNING),
    )
    return Reproduction(
        _THEUS,
        f"{networks}, aligned along all their symmetries",
        config,
        rows,
        overrides,
        ("align.method=weight_matching,learned_matching",),
        scaled="the barrier between networks that have learned little is small before they are aligned",
    )


REPRODUCTIONS: dict[str, Reproduction] = {
    "llfc-mnist-mlp": _spawned("mnist_mlp", "figure 2", _PAPERS_MLP),
    "llfc-mnist-lenet": _spawned("mnist_lenet", "figure 2"),
    "llfc-cifar-vgg16": _spawned("cifar_vgg", "figure 2"),
    "llfc-cifar-resnet20": _spawned("cifar_resnet", "figure 2"),
    "llfc-tiny-imagenet-resnet50": _spawned("tiny_imagenet_resnet50", "section 3"),
    "llfc-mnist-mlp-permuted": _permuted("mnist_mlp_permutation", "figure 3, section 5", _PAPERS_MLP),
    "llfc-cifar-resnet20-permuted": _permuted(
        "cifar_resnet_permutation", "figure 3, section 5", (("model.width", "32"),)
    ),
    "llfc-cifar-vgg16-permuted": Reproduction(
        _ZHOU,
        "section 3: permutations found no connected pair of VGG-16",
        "cifar_vgg_permutation",
        (
            Row("loss barrier, naive", barrier("a-b", "loss"), "nats", "high"),
            Row("… weight matching", barrier("a-b_aligned", "loss"), "nats", "high: not connected"),
        ),
    ),
    "llfc-causes-mnist-mlp": _causes("mnist_mlp", _PAPERS_MLP),
    "llfc-causes-cifar-resnet20": _causes("cifar_resnet"),
    "stitching-vgg16": _stitching("cifar_vgg", "6.88 %", "11.84 %"),
    "stitching-resnet20": _stitching("cifar_resnet", "8.99 %", "13.35 %"),
    "rebasin-mnist-mlp": Reproduction(
        _AINSWORTH,
        "figure 2: two MLPs on MNIST",
        "mnist_mlp_permutation",
        (
            Row("loss barrier, naive", barrier("a-b", "loss"), "nats", "high, by the figure"),
            Row("loss barrier, weight matching", barrier("a-b_aligned", "loss"), "nats", _FLAT),
        ),
    ),
    "rebasin-width": Reproduction(
        _AINSWORTH,
        "section 5.2: the barrier of ResNet-20 (LayerNorm, CIFAR-10) by width",
        "cifar_resnet_permutation",
        tuple(
            _of_width(width, "weight matching", "a-b_aligned", published)
            for width, published in ((1.0, "1.37"), (4.0, ""), (32.0, "0.02"))
        ),
        sweep=("model.width=1,4,32",),
    ),
    "repair-width": Reproduction(
        _JORDAN,
        "ResNet-20 (LayerNorm, CIFAR-10) by width: matched, and its units' moments restored",
        "cifar_resnet_permutation",
        tuple(
            _of_width(width, name, path, published)
            for width in (1.0, 4.0, 16.0)
            for name, path, published in (
                ("matched", "a-b_aligned", "falls with width, by the figure"),
                ("REPAIR", "a-b_aligned/repair", "below that of matching alone, by the figure"),
            )
        ),
        (("measures", "lmc,llfc"),),
        sweep=("model.width=1,4,16",),
    ),
    "repair-imagenet-resnet50": Reproduction(
        _JORDAN,
        "two ResNet-50 on ImageNet, halfway: matched, and BatchNorm's statistics recomputed",
        "imagenet_resnet50",
        (
            Row("error halfway, matched", middle_error("a-b_aligned"), "%", ""),
            Row("… recomputed", middle_error("a-b_aligned/recompute"), "%", "44 to 49 % (51 to 56 % top-1)"),
        ),
        scaled="on fewer images an error is less certain; nothing is trained",
    ),
    "repair-resnet18": Reproduction(
        _JORDAN,
        "ResNet18 on CIFAR-10: BatchNorm's statistics recomputed after matching",
        "cifar_resnet_permutation",
        (
            Row("error barrier, matched", barrier("a-b_aligned", "error"), "%", "16 points"),
            Row("… recomputed", barrier("a-b_aligned/recompute", "error"), "%", "1.5 points"),
        ),
        (
            ("model.name", "resnet18"),
            ("model.stem", "cifar"),
            ("model.norm", "batch"),
            ("model.shortcut", "None"),
            ("align.method", "activation_matching"),
        ),
    ),
    "instability-mnist-lenet": Reproduction(
        _FRANKLE,
        "figure 2: children of LeNet on MNIST, spawned at initialisation",
        "mnist_lenet",
        (
            Row(
                "error barrier, spawned at epoch 0",
                barrier("a-b", "error"),
                "%",
                "0 (stable at initialisation)",
            ),
        ),
        (("train.spawn_epochs", "0"),),
    ),
    "instability-cifar-resnet20": Reproduction(
        _FRANKLE,
        "figure 3: children of ResNet-20 on CIFAR-10 by the step at which they were spawned",
        "cifar_resnet_spawn_sweep",
        (
            Row("error barrier, spawned at 0", barrier_of_spawned(0, "error"), "%", "high, by the figure"),
            Row(
                "… at 3 % of training",
                barrier_of_spawned(3, "error"),
                "%",
                "below 2 points: stable from there on",
            ),
            Row("… at 12 %", barrier_of_spawned(5, "error"), "%", "below 2 points"),
        ),
    ),
    "c2m3-resnet20": Reproduction(
        _CRISOSTOMI,
        "table 1: the mean of five ResNet-20 on CIFAR-10 (here with LayerNorm), matched all at once",
        "cifar_resnet_permutation",
        (
            Row("error of the ends", end_error, "%", "", _NAIVE | _PLAIN),
            Row("error of the mean, naive", merged_error, "%", "", _NAIVE | _PLAIN),
            Row("… each matched to the first", merged_error, "%", "", _BY_WEIGHTS | _PLAIN),
            Row("… with REPAIR", merged_error, "%", "", _BY_WEIGHTS | _REPAIRED),
            Row("… all to one universe", merged_error, "%", "", _BY_UNIVERSE | _PLAIN),
            Row(
                "… with REPAIR",
                merged_error,
                "%",
                "the lowest, by the abstract",
                _BY_UNIVERSE | _REPAIRED,
            ),
        ),
        (
            ("train.networks", "5"),
            ("merge.weights", "1,1,1,1,1"),
            ("model.width", "2"),
            ("measures", "lmc"),
        ),
        ("corrections.repair=false,true", "align.method=none,weight_matching,universe_matching"),
        scaled="means of networks that have learned little are as bad whichever way they are matched",
    ),
    "theus-vit": _aligned_along_all("two ViTs on CIFAR-10", "cifar_vit_permutation", "1.69", "0.36", "0.00"),
    "theus-gpt": _aligned_along_all(
        "two GPT-2 on Tiny Shakespeare", "text_gpt_published", "2.02", "0.34", "0.02", _INDEPENDENT
    ),
}
"""Name -> figure or table."""
