"""PyTorch's script and ours find the same numbers on the same weights."""

import numpy as np
import pytest

from llfc_jax.benchmark.cases import CASES
from llfc_jax.data.batches import batches
from llfc_jax.interchange import load_variables, name_tables
from llfc_jax.measures.measure import Options, build, measure_along
from llfc_jax.path.curves import Curve
from llfc_jax.program.reading import read_features

torch = pytest.importorskip("torch")

from llfc_jax.benchmark import torch_peer  # noqa: E402

NAMES = {
    "mlp": name_tables.sequential,
    "resnet20": name_tables.authors_resnet,
    "vgg16": name_tables.vgg,
}


def state(job, seed, file):
    """A random network whose signals and running statistics are those of no initialisation."""
    network = job.network(seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, array in network.state_dict().items():
            if name.endswith("running_var") or (array.ndim == 1 and name.endswith("weight")):
                array.uniform_(0.5, 1.5, generator=generator)
            elif array.ndim == 1:
                array.normal_(0, 0.1, generator=generator)
            elif array.ndim > 1:
                array.normal_(0, (2 / array[0].numel()) ** 0.5, generator=generator)
    torch.save(network.state_dict(), file)
    return network.state_dict()


@pytest.mark.parametrize(
    "name", ["mlp", *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet20", "vgg16"))]
)
def test_curves_and_features_agree(name, tmp_path):
    case = CASES[name]._replace(batch_size=4, images=8)
    job = torch_peer.Job(case.model, case.image, case.batch_size, case.images, repeats=1)
    files = [tmp_path / "a.pt", tmp_path / "b.pt"]
    a, b = (state(job, seed, file) for seed, file in enumerate(files))
    split = case.split()

    line = Curve(*(load_variables(file, case.network, case.image)[0] for file in files))
    first = next(batches(split, case.batch_size))
    program = read_features(case.apply_with_features, line.a, first.images)
    ours = measure_along(
        program,
        line,
        lambda _: batches(split, case.batch_size),
        build(("lmc", "llfc"), Options(num_alphas=5)),
        chunk=1,
    )
    lmc, llfc = ours["lmc"], ours["llfc"]

    theirs = torch_peer.Images(torch.from_numpy(split.images), torch.from_numpy(split.labels).long())
    loader = torch_peer.DataLoader(theirs, batch_size=case.batch_size)
    network = job.network(0).eval()
    curves = torch_peer.lmc(network, a, b, loader, lmc["alphas"])
    layers = torch_peer.llfc(network, a, b, loader, llfc["alphas"])

    np.testing.assert_allclose(lmc["test"]["loss"], curves["loss"], rtol=1e-4)
    np.testing.assert_allclose(lmc["test"]["error"], curves["error"], atol=1e-6)
    module_of = NAMES[name](case.network)
    shared = [layer for layer in llfc["layers"] if module_of.get(layer["layer"]) in layers]
    assert len(shared) >= 0.5 * len(layers)
    for layer in llfc["layers"]:
        found = layers.get(module_of.get(layer["layer"]))
        if found is None:
            continue
        distance, coefficient = (layer[key]["mean"] for key in ("cosine_distance", "coefficient"))
        np.testing.assert_allclose(distance, found["cosine_distance"], rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(coefficient, found["coefficient"], rtol=1e-3)
        np.testing.assert_allclose(layer["baseline"]["mean"], found["baseline"], rtol=1e-3, atol=1e-5)


def test_a_training_step_is_timed_and_changes_the_network():
    job = torch_peer.Job({"name": "mlp"}, (28, 28, 1), 4, 4, repeats=2)
    assert torch_peer.training_step(job)["seconds"] > 0
    assert torch_peer.forward(job)["seconds"] > 0


def test_waiting_is_the_time_that_batches_take():
    clocked = torch_peer.Clocked([(torch.zeros(1), torch.zeros(1))] * 3)
    assert len(list(clocked)) == 3
    assert 0 < clocked.waited < 1
