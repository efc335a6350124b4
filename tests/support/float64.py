"""The oracle: layers and comparisons in float64 NumPy, written from their definitions."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.linalg import norm

from llfc_jax.models.network import INPUT


def between(a, b, alpha):
    return (1 - alpha) * a + alpha * b


def lerp_tree(a, b, alpha):
    if isinstance(a, dict):
        return {name: lerp_tree(a[name], b[name], alpha) for name in a}
    return between(np.float64(a), np.float64(b), alpha)


def conv_same(x, kernel):
    height, width = (size // 2 for size in kernel.shape[:2])
    padded = np.pad(x, ((0, 0), (height, height), (width, width), (0, 0)))
    windows = sliding_window_view(padded, kernel.shape[:2], axis=(1, 2))
    return np.einsum("nijcyx,yxco->nijo", windows, kernel)


def apply(stage, variables, *inputs, bias=True):
    """The output of a stage, with `W H` alone where `bias` is off."""
    own = {name: np.float64(leaf) for name, leaf in variables["params"].get(stage.name, {}).items()}
    (x, *others) = inputs
    shift = own.get("bias", 0) if bias else 0
    match stage.kind:
        case "dense":
            return x @ own["kernel"] + shift
        case "conv":
            return conv_same(x, own["kernel"]) + shift
        case "norm" if stage.name in variables.get("batch_stats", {}):
            statistics = {key: np.float64(leaf) for key, leaf in variables["batch_stats"][stage.name].items()}
            scale = own["scale"] / np.sqrt(statistics["var"] + 1e-5)
            return (x - statistics["mean"]) * scale + shift
        case "norm":
            return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * own[
                "scale"
            ] + shift
        case "relu":
            return np.maximum(x, 0)
        case "pool" if stage.name.startswith("mean"):
            return x.mean((1, 2))
        case "pool":
            n, h, w, c = x.shape
            return x.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))
        case "flatten":
            return x.reshape(len(x), -1)
        case "add":
            return x + others[0]
    raise ValueError(f"the oracle has no account of a stage of kind {stage.kind!r}")


def forward(stages, variables, inputs):
    values = {INPUT: np.float64(inputs)}
    for stage in stages:
        values[stage.name] = apply(stage, variables, *(values[name] for name in stage.inputs))
    return values


def dist(x, y):
    return np.sum((x - y) ** 2) / (np.linalg.norm(x) * np.linalg.norm(y))


def comparison(u, v):
    """Definitions of LLFC, section 3, in float64."""
    u, v = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (u, v))

    def distance(x, y):
        return 0.5 * np.sum(
            (x / norm(x, axis=-1, keepdims=True) - y / norm(y, axis=-1, keepdims=True)) ** 2, -1
        )

    def dist(x, y):
        return np.sum((x - y) ** 2, -1) / (norm(x, axis=-1) * norm(y, axis=-1))

    per_sample, dists = distance(u, v), dist(u, v)
    coefficient = np.sum(u * v, -1) / np.sum(v * v, -1)
    return {
        "cosine_distance": {
            "mean": per_sample.mean(),
            "std": per_sample.std(),
            "q25": np.quantile(per_sample, 0.25),
            "median": np.quantile(per_sample, 0.5),
            "q75": np.quantile(per_sample, 0.75),
        },
        "coefficient": {"mean": coefficient.mean(), "std": coefficient.std()},
        "dist": {"mean": dists.mean(), "std": dists.std()},
        "dataset": {
            "cosine_distance": distance(u.ravel(), v.ravel()),
            "coefficient": np.vdot(u, v) / np.vdot(v, v),
            "dist": dist(u.ravel(), v.ravel()),
        },
    }
