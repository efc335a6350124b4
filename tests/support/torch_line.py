"""The line between two PyTorch modules, measured by PyTorch in float64 with forward hooks."""

import copy

import float64
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch_modules import call

import llfc_jax

ALPHAS = (0.25, 0.5, 0.75)


def as_jax(inputs):
    return jax.tree.map(lambda x: jnp.asarray(x.numpy()) if torch.is_tensor(x) else x, inputs)


def in_double(inputs):
    return jax.tree.map(lambda x: x.double() if torch.is_tensor(x) and x.is_floating_point() else x, inputs)


def on_the_line(module, a, b, alpha):
    """A module between two state dicts, in float64."""
    module = copy.deepcopy(module).double()
    module.load_state_dict(
        {
            name: (1 - alpha) * a[name].double() + alpha * b[name].double()
            if a[name].is_floating_point()
            else a[name]
            for name in a
        }
    )
    return module.eval()


def hooked(module, inputs):
    """Outputs, and what submodules return, by PyTorch's own forward hooks."""
    found, hooks = {}, []
    for path, part in module.named_modules():

        def keep(_, __, output, path=path):
            if path and torch.is_tensor(output):
                found.setdefault(path, []).append(output.detach().clone())

        hooks.append(part.register_forward_hook(keep))
    with torch.no_grad():
        outputs = call(module, inputs)
    for hook in hooks:
        hook.remove()
    return outputs, {
        f"{path}/{index}" if len(outputs) > 1 else path: output
        for path, outputs in found.items()
        for index, output in enumerate(outputs)
    }


def check_line(network, module, other, inputs, logits_of):
    """LMC and LLFC of the library are those of PyTorch in float64.

    Args:
        network: of the module, from `llfc_jax.from_torch`.
        module: one end.
        other: the other end.
        inputs: a batch of tensors.
        logits_of: what the module returns -> logits.
    """
    a, b = module.state_dict(), other.state_dict()
    found = {alpha: hooked(on_the_line(module, a, b, alpha), in_double(inputs)) for alpha in (0, *ALPHAS, 1)}
    logits = {alpha: logits_of(outputs) for alpha, (outputs, _) in found.items()}
    shape, classes = logits[0].shape[:-1], logits[0].shape[-1]
    labels = torch.arange(int(np.prod(shape))).reshape(shape) % classes
    arrays = {k: v for k, v in inputs.items() if torch.is_tensor(v)} if isinstance(inputs, dict) else inputs
    examples = [(as_jax(arrays), labels.numpy())]  # what is no array is the example's
    variables = network.variables, network.variables_of(b)

    curves = llfc_jax.evaluate_path(network.apply, *variables, examples, num_alphas=5)
    for alpha, loss, error in zip(curves["alphas"], curves["loss"], curves["error"], strict=True):
        flat = logits[alpha].reshape(-1, classes)
        assert loss == pytest.approx(torch.nn.functional.cross_entropy(flat, labels.ravel()).item(), rel=1e-4)
        assert error == pytest.approx((flat.argmax(1) != labels.ravel()).double().mean().item(), abs=1e-9)

    (_, at_a), (_, at_b) = found[0], found[1]
    if not at_a:  # a module without parts has no features of theirs
        return
    measured = llfc_jax.measure_features(network.apply_with_features, *variables, examples, alphas=ALPHAS)
    rows = {row["layer"]: row for row in measured["layers"]}
    n = len(labels)  # tables of positions are of no sample
    ours = {path for path in at_a if len(at_a[path]) == n}
    missing = ours - rows.keys() - measured["skipped"].keys()
    assert not missing, missing
    for path in at_a.keys() & rows.keys():
        for index, alpha in enumerate(ALPHAS):
            middle = (1 - alpha) * at_a[path] + alpha * at_b[path]
            expected = float64.comparison(found[alpha][1][path], middle)
            for quantity in ("cosine_distance", "coefficient"):
                mean = rows[path][quantity]["mean"][index]
                assert mean == pytest.approx(expected[quantity]["mean"], rel=1e-4, abs=1e-9), (path, quantity)
