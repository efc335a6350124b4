"""The order of a network's permutation group, found numerically: knows nothing of programs and their axes.

Every group of permutations is counted along a chain of stabilisers, |G| = |orbit of p1| |orbit of p2 under
what leaves p1| ..., for any sequence of weights p1, p2, ... that nothing but the identity leaves. At weights
that G leaves as they are, weights of one orbit have one derivative. So the classes of equal derivatives,
refined until they stay, at values drawn anew for each class, hold whole orbits; the product of their sizes
along the chain bounds |G| from above. A symmetry that a spec lacks makes the bound larger than the spec's
order; where both agree, the spec's group is the whole one.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.symmetry.spec import around


def order(spec):
    """How many permutations a spec has."""
    sizes = spec.sizes
    copies = {name: math.prod(sizes[other] for other in around(name, sizes)) for name in sizes}
    return math.prod(math.factorial(size) ** copies[name] for name, size in sizes.items())


def order_by_force(apply, variables, inputs, told_apart=(), seeds=2):
    """An upper bound on the number of permutations of the weights of each array that keep the outputs.

    Args:
        apply: `apply(variables, *inputs)`.
        variables: only their structure, shapes and dtypes count.
        inputs: generic ones.
        told_apart: path -> axis of an array whose positions are told apart first: where ties would decide.
        seeds: number of chains; the least bound counts, as units that are dead at some values hide others.
    """
    with jax.enable_x64(True):
        derivative = _derivative(apply, variables, inputs)
        chains = (_bound(derivative, variables, told_apart, np.random.default_rng(i)) for i in range(seeds))
        return min(chains)


def _bound(derivative, variables, told_apart, rng):
    """The product of the classes' sizes along one chain, the smallest class first."""
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    paths = [jax.tree_util.keystr(path) for path, _ in leaves]
    labels = np.concatenate([np.full(np.size(leaf), i) for i, (_, leaf) in enumerate(leaves)])
    owner, found = labels.copy(), 1
    for path, axis in dict(told_apart).items():
        i = paths.index(path)
        along = np.indices(np.shape(leaves[i][1]))[axis].ravel()
        labels[owner == i] = labels.max() + 1 + along
        found *= math.factorial(along.max() + 1)
    labels = _refined(labels, derivative, rng)
    while (sizes := np.bincount(labels)).max() > 1:
        chosen = np.argmin(np.where(sizes > 1, sizes, np.inf))
        found *= int(sizes[chosen])
        labels[np.flatnonzero(labels == chosen)[0]] = len(sizes)
        labels = _refined(labels, derivative, rng)
    return found


def _refined(labels, derivative, rng):
    """Classes at which the derivatives, too, are one number for each."""
    while True:
        labels = np.unique(labels, return_inverse=True)[1]
        values = rng.normal(size=(labels.max() + 1, 2))
        slopes = np.asarray(derivative(values[labels]))
        finer = labels
        for column in slopes.T:
            finer = np.unique(finer * len(labels) + _numbered(column), return_inverse=True)[1]
        if finer.max() == labels.max():
            return labels
        labels = finer


def _numbered(column):
    """Which of the numbers that differ by more than rounding each is."""
    rank = np.argsort(column)
    gaps = np.diff(column[rank]) > 1e-9 * np.abs(column).max() + 1e-12
    numbers = np.empty(len(column), int)
    numbers[rank] = np.concatenate([[0], np.cumsum(gaps)])
    return numbers


def _derivative(apply, variables, inputs):
    """Values -> derivatives of the outputs by them; both (weights, 2), real and imaginary parts."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(variables)
    shapes = [np.shape(leaf) for _, leaf in leaves]
    inputs = jax.tree.map(_double, inputs)
    ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1]

    def outputs(values):
        made = []
        for (path, leaf), own, shape in zip(leaves, jnp.split(values, ends), shapes, strict=True):
            real, imaginary = own.reshape(*shape, 2)[..., 0], own.reshape(*shape, 2)[..., 1]
            dtype = jnp.result_type(leaf)
            if jnp.issubdtype(dtype, jnp.complexfloating):
                made.append(0.3 * (real + 1j * imaginary))
            elif jnp.issubdtype(dtype, jnp.floating):
                name = jax.tree_util.keystr(path)
                fan_in = math.prod(shape[:-1]) if len(shape) > 1 else 1
                positive = any(word in name for word in ("var", "scale"))
                made.append(jnp.exp(0.3 * real) if positive else real / fan_in**0.7)
            else:
                made.append(jnp.asarray(leaf))
        results = jax.tree.leaves(apply(jax.tree.unflatten(structure, made), *inputs))
        parts = [part for x in results for part in (jnp.real(x).ravel(), jnp.imag(x).ravel())]
        return jnp.concatenate([part.astype(float) for part in parts])

    some = np.zeros((sum(map(math.prod, shapes)), 2))
    shape = jax.eval_shape(outputs, some).shape
    weights = jnp.asarray(np.random.default_rng(0).normal(size=shape))
    quick = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    return jax.jit(jax.grad(lambda values: outputs(values) @ weights), compiler_options=quick)


def _double(x):
    x = jnp.asarray(x)
    return x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x
