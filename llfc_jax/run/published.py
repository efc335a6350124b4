"""What papers have published, beside the runs that give it: a figure or a table is one line of the registry.

Only numbers that a paper's text or tables print are here; where a figure alone shows a result, what it shows
is in words.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

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


def end_error(results: Results) -> float:
    """The mean test error of the networks."""
    errors = [entry["test"]["error"] for name, entry in results["endpoints"].items() if "_" not in name]
    return sum(errors) / len(errors)


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
_THEUS = "Theus et al. 2025, Generalized Linear Mode Connectivity for Transformers"
_FLAT = "0, by the figure"
_BY_WEIGHTS = {"align.method": "weight_matching"}
_BY_LEARNING = {"align.method": "learned_matching"}
_INDEPENDENT = (("train.pair", "independent"), ("measures", "lmc,llfc"))
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
        Row("LLFC, worst layer, of the baseline", worst_layer("a-b"), "part", "close to 0, by the figure"),
    )
    return Reproduction(
        _ZHOU, f"{figure}: features of a spawned pair are linear, too", config, rows, overrides
    )


def _stitching(config: str, least: str, most: str) -> Reproduction:
    rows = (
        Row("error of the ends", end_error, "%", ""),
        Row("error after stitching, at the best layer", stitched("a-b", min), "%", least),
        Row("error after stitching, at the worst layer", stitched("a-b", max), "%", most),
    )
    return Reproduction(_ZHOU, "tables of stitching: a spawned pair", config, rows)


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
            Row(
                f"loss barrier, weight matching, width {width}",
                barrier("a-b_aligned", "loss"),
                "nats",
                published,
                {"model.width": width},
            )
            for width, published in ((1.0, "1.37"), (4.0, ""), (32.0, "0.02"))
        ),
        sweep=("model.width=1,4,32",),
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
    "theus-vit": _aligned_along_all("two ViTs on CIFAR-10", "cifar_vit_permutation", "1.69", "0.36", "0.00"),
    "theus-gpt": _aligned_along_all(
        "two GPT-2 on Tiny Shakespeare", "text_gpt_published", "2.02", "0.34", "0.02", _INDEPENDENT
    ),
}
"""Name -> figure or table."""
