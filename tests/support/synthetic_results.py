"""Results such as a run would write, made up from a few numbers: what the report's tests read."""

import json
from typing import Any

import numpy as np

ALPHAS = [float(alpha) for alpha in np.linspace(0, 1, 25)]
LLFC_ALPHAS = [0.25, 0.5, 0.75]
MLP = [("dense1", "dense"), ("relu1", "relu"), ("dense2", "dense"), ("relu2", "relu"), ("dense3", "dense")]
MLP += [("relu3", "relu"), ("dense4", "dense")]


def resnet_layers(blocks: int = 3) -> list[tuple[str, str]]:
    """The stages of a CIFAR ResNet with `6 * blocks + 2` layers."""
    layers = [("conv0", "conv"), ("norm0", "norm"), ("relu0", "relu")]
    for group in range(1, 4):
        for block in range(1, blocks + 1):
            for part in ("conv1", "norm1", "relu1", "conv2", "norm2", "add", "relu2"):
                layers.append((f"block{group}_{block}.{part}", part.rstrip("12")))
    return [*layers, ("mean", "pool"), ("dense", "dense")]


def curve(ends: tuple[float, float], bump: float, ceiling: float = np.inf) -> list[float]:
    alphas = np.asarray(ALPHAS)
    shape = (4 * alphas * (1 - alphas)) ** 2
    chord = (1 - alphas) * ends[0] + alphas * ends[1]
    return np.minimum(chord + bump * shape, ceiling).tolist()


def lmc_split(
    loss_ends: tuple[float, float], error_ends: tuple[float, float], loss_bump: float, error_bump: float
):
    split: dict[str, Any] = {
        "loss": curve(loss_ends, loss_bump),
        "error": curve(error_ends, error_bump, 0.9),
    }
    split["examples"] = 10_000
    for quantity in ("loss", "error"):
        values, alphas = np.asarray(split[quantity]), np.asarray(ALPHAS)
        excess = values - ((1 - alphas) * values[0] + alphas * values[-1])
        split[f"{quantity}_excess_std"] = (0.1 * 4 * alphas * (1 - alphas)).tolist()
        split[f"{quantity}_barrier"] = float(excess.max())
        split[f"{quantity}_midpoint_gap"] = float(excess[len(alphas) // 2])
    return split


def lmc_entry(loss_bump: float, error_bump: float) -> dict[str, Any]:
    return {
        "alphas": ALPHAS,
        "test": lmc_split((0.081, 0.086), (0.0212, 0.0224), loss_bump, error_bump),
        "train": lmc_split((0.0031, 0.0035), (0.0004, 0.0006), 0.9 * loss_bump, 0.95 * error_bump),
    }


def llfc_entry(layers: list[tuple[str, str]], share: float, seed: int = 0) -> dict[str, Any]:
    """Distances of about `share` of a baseline growing with depth; the first layer is exactly linear."""
    rng = np.random.default_rng(seed)
    entries = []
    for depth, (name, kind) in enumerate(layers):
        baseline = 0.04 + 0.35 * (depth + 1) / len(layers) * rng.uniform(0.7, 1.2) * (
            0.6 if kind == "relu" else 1
        )
        at_half = 1e-14 if depth == 0 else baseline * share * rng.uniform(0.3, 1.0)
        distances = [at_half * 0.75, at_half, at_half * 0.8]
        spread = {"q25": 0.5, "median": 0.9, "q75": 1.4}
        coefficients = [1 - 0.4 * distance for distance in distances]
        entries.append(
            {
                "layer": name,
                "kind": kind,
                "cosine_distance": {"mean": distances, "std": [0.6 * distance for distance in distances]}
                | {name: [factor * distance for distance in distances] for name, factor in spread.items()},
                "coefficient": {"mean": coefficients, "std": [0.02 + 0.1 * share] * 3},
                "dataset": {
                    "cosine_distance": [0.9 * distance for distance in distances],
                    "coefficient": coefficients,
                    "dist": [2 * distance for distance in distances],
                },
                "dist": {"mean": [2 * distance for distance in distances], "std": distances},
                "end": {
                    "mean": [factor * baseline for factor in (0.14, 0.25, 0.14)],
                    "std": [0.05 * baseline] * 3,
                },
                "baseline": {
                    "mean": baseline,
                    "std": 0.3 * baseline,
                    "dataset": 0.95 * baseline,
                    "dead": 0,
                }
                | {name: factor * baseline for name, factor in spread.items()},
                "dead": [0, 0, 0],
            }
        )
    return {"alphas": LLFC_ALPHAS, "layers": entries}


OWN = {"dense": "commutativity", "conv": "commutativity", "relu": "weak_additivity", "norm": "normalization"}


def explained(results: dict[str, Any], layers: list[tuple[str, str]], size: float) -> dict[str, Any]:
    """The same results with every measure that explains LLFC, of about this size, along the plain paths."""
    named = [{"layer": name, "kind": kind} for name, kind in layers]
    linear = [layer for layer in named if layer["kind"] in ("dense", "conv")]
    per_sample = {"mean": [0.8 * size, size, 0.7 * size], "std": [0.3 * size] * 3}
    compared = {
        "cosine_distance": per_sample | dict.fromkeys(("q25", "median", "q75"), per_sample["mean"]),
        "coefficient": {"mean": [1.0] * 3, "std": [0.1] * 3},
        "dist": per_sample,
        "dataset": {name: [size] * 3 for name in ("cosine_distance", "coefficient", "dist")},
        "dead": [0] * 3,
    }
    spread = {"mean": 0.01 * size, "std": 0.004 * size, "dataset": 0.01 * size}
    share = [0.4, 0.45, 0.5]

    def parts(kind: str) -> dict[str, Any]:
        if kind not in OWN:
            return {"propagated": [1.0] * 3}
        return {"propagated": [1 - x for x in share], OWN[kind]: share}

    entries: dict[str, Any] = {
        "weak_additivity": {
            "alphas": LLFC_ALPHAS,
            "layers": [layer | compared for layer in named if layer["kind"] == "relu"],
        },
        "commutativity": {
            "layers": [
                layer | {"dist_com": spread, "dist_w": size, "dist_h": spread, "dead": 0} for layer in linear
            ]
        },
        "deviation": {
            "alphas": LLFC_ALPHAS,
            "layers": [
                layer
                | {
                    "deviation": [size] * 3,
                    "scale": [1.0] * 3,
                    "norms": {part: [size] * 3 for part in parts(layer["kind"])},
                    "shares": parts(layer["kind"]),
                }
                for layer in named
            ],
        },
        "stitching": {
            "layers": [
                layer | {side: {"loss": size, "error": size} for side in ("prefix_a", "prefix_b")}
                for layer in named
            ]
        },
        "principal_angles": {
            "top_k": 2,
            "layers": [layer | {"left": [10.0, 50.0], "right": [0.0, 90.0]} for layer in linear],
        },
        "effective_rank": {
            "alphas": [0.0, 0.5, 1.0],
            "layers": [
                layer
                | {"features": [20.0, 25.0, 22.0]}
                | ({"weights": [50.0] * 3} if layer in linear else {})
                for layer in named
            ],
        },
        "theory": {
            "lemma1": {"bound": 0.05, "sum": 0.04, "measured": 0.03, "holds": True},
            "theorem1": {
                "alphas": LLFC_ALPHAS,
                "holds": True,
                "layers": [
                    layer | {"bound": [5 * size] * 3, "deviation": [size] * 3, "holds": True}
                    for layer in named
                ],
            },
        },
    }
    for measure, entry in entries.items():
        results[measure] = {path: json.loads(json.dumps(entry)) for path in results["lmc"] if "/" not in path}
    return results


def history(start: int, stop: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    epochs = np.arange(start + 1, stop + 1, dtype=float)
    wobble = rng.uniform(0.93, 1.07, (4, len(epochs)))
    curves = {
        "train_loss": 1.9 * np.exp(-epochs / 2.2) + 0.003,
        "train_error": 0.5 * np.exp(-epochs / 2) + 0.0004,
        "test_loss": 1.7 * np.exp(-epochs / 1.9) + 0.081,
        "test_error": 0.45 * np.exp(-epochs / 1.7) + 0.0212,
    }
    noisy = {
        name: (values * row).tolist() for (name, values), row in zip(curves.items(), wobble, strict=True)
    }
    rates = (0.05 * (1 + np.cos(np.pi * epochs / stop))).tolist()
    return {"epoch": epochs.tolist(), "step": (epochs * 469).tolist(), **noisy, "learning_rate": rates}


def spawned_mlp() -> dict[str, Any]:
    """A connected pair of MLPs, spawned after 4 of 20 epochs."""
    ends = {"train": {"loss": 0.0031, "error": 0.0004}, "test": {"loss": 0.081, "error": 0.0212}}
    results = {
        "schema_version": 2,
        "command": "llfc_jax --config=mnist_mlp",
        "environment": {
            "python": "3.11.9",
            "jax": "0.10.2",
            "jaxlib": "0.10.2",
            "flax": "0.12.0",
            "optax": "0.2.6",
            "orbax": "0.11.1",
            "numpy": "2.4.6",
            "platform": "cpu",
            "device": "cpu",
            "device_count": 1,
            "git_commit": None,
        },
        "config": {
            "name": "mnist_mlp",
            "seed": 0,
            "data": {"name": "mnist", "data_dir": None},
            "model": {"name": "mlp", "widths": [512, 512, 512]},
            "train": {"epochs": 20, "spawn_epochs": 4, "batch_size": 128},
        },
        "data": {
            "name": "mnist",
            "train_examples": 60000,
            "test_examples": 10000,
            "measured_train_examples": 10000,
            "num_classes": 10,
            "fingerprint": "0c5d8e3f",
        },
        "model": {"name": "mlp", "parameters": 932362, "stages": [name for name, _ in MLP]},
        "training": {"trunk": history(0, 4, 0), "a": history(4, 20, 1), "b": history(4, 20, 2)},
        "endpoints": {"a": ends, "b": {**ends, "test": {"loss": 0.086, "error": 0.0224}}},
        "lmc": {"a-b": lmc_entry(0.0012, 0.0005)},
        "llfc": {"a-b": llfc_entry(MLP, 0.04)},
        "weights": {"a-b": {"distance": 31.0, "relative": 0.4}},
        "seconds": {"train": 31.2, "measure": 4.7},
        "peak_memory_bytes": 812_000_000,
    }
    return json.loads(json.dumps(results))


def unconnected_mlp() -> dict[str, Any]:
    """An independent pair of MLPs: a high barrier and no linear features."""
    results = spawned_mlp()
    del results["training"]["trunk"]
    results["training"] = {"a": history(0, 20, 1), "b": history(0, 20, 2)}
    results["lmc"] = {"a-b": lmc_entry(1.31, 0.43)}
    results["llfc"] = {"a-b": llfc_entry(MLP, 0.8)}
    return results


def aligned_mlp() -> dict[str, Any]:
    """The independent pair before and after permuting B."""
    results = unconnected_mlp()
    results["endpoints"]["b_aligned"] = results["endpoints"]["b"]
    results["lmc"]["a-b_aligned"] = lmc_entry(0.014, 0.004)
    results["llfc"]["a-b_aligned"] = llfc_entry(MLP, 0.09, seed=3)
    results["alignment"] = {}
    results["alignment"]["a-b_aligned"] = {
        "method": "weight_matching",
        "objective": [1200.1, 1890.4, 1902.2, 1902.2],
        "converged": True,
        "equivalence_error": 2.4e-6,
        "constraints": [
            {"added": "none of the constraints", "barrier": 0.012, "cost": 0.012},
            {"added": "one basis along skip connections", "barrier": 0.31, "cost": 0.298},
            {"added": "one array for all its readers", "barrier": None, "cost": None},
        ],
        "description": "P1 (512): dense1.kernel axis 1, dense1.bias axis 0, dense2.kernel axis 0",
    }
    return explained(results, MLP, 0.1)


def deep_resnet(blocks: int = 3) -> dict[str, Any]:
    """A spawned ResNet (70 layers by default) with batch normalisation: both conventions."""
    results, layers = spawned_mlp(), resnet_layers(blocks)
    results["config"]["name"] = "cifar_resnet"
    results["model"] = {"name": "resnet20", "parameters": 269722, "stages": [name for name, _ in layers]}
    results["lmc"] = {"a-b": lmc_entry(0.31, 0.062), "a-b/recompute": lmc_entry(0.021, 0.006)}
    results["llfc"] = {"a-b": llfc_entry(layers, 0.3), "a-b/recompute": llfc_entry(layers, 0.09, seed=5)}
    return explained(results, layers, 0.02)


def wounded_mlp() -> dict[str, Any]:
    """A pair with a dead layer, a zero baseline, nulls, and no optional key."""
    results = spawned_mlp()
    for key in ("peak_memory_bytes", "seconds", "training"):
        del results[key]
    dead = results["llfc"]["a-b"]["layers"][3]
    nothing = {name: [None] * 3 for name in ("mean", "std", "q25", "median", "q75")}
    dead |= {"cosine_distance": nothing, "coefficient": nothing, "dead": [10000] * 3}
    dead["dataset"] = {name: [None] * 3 for name in ("cosine_distance", "coefficient", "dist")}
    dead["baseline"] = dict.fromkeys(dead["baseline"]) | {"dead": 10000}
    dead["end"] = {"mean": [None] * 3, "std": [None] * 3}
    agreeing = results["llfc"]["a-b"]["layers"][0]
    agreeing["baseline"] = dict.fromkeys(agreeing["baseline"], 0.0) | {"dead": 0}
    agreeing["end"] = {"mean": [0.0] * 3, "std": [0.0] * 3}
    results["lmc"]["a-b"]["train"]["loss"][12] = None
    explained(results, MLP, 0.0)
    results["weak_additivity"]["a-b"]["layers"][0]["cosine_distance"] = dict(nothing)
    results["commutativity"]["a-b"]["layers"][1]["dist_w"] = None
    results["deviation"]["a-b"]["layers"][2]["shares"] = {"propagated": [None] * 3}
    results["deviation"]["a-b"]["layers"][3]["deviation"] = [None] * 3
    return results


CASES = {
    "spawned": spawned_mlp,
    "unconnected": unconnected_mlp,
    "aligned": aligned_mlp,
    "deep": deep_resnet,
    "wounded": wounded_mlp,
}
