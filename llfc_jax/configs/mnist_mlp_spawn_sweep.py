"""Pairs of MLPs on MNIST, spawned at several epochs of one trunk: when do networks become connected?

Papers: Frankle et al. 2020, section 3 (LMC appears early in training); LLFC (Zhou et al. 2023), section 3
(LLFC with it).

    llfc_jax --config=mnist_mlp_spawn_sweep
"""

from ml_collections import ConfigDict

from llfc_jax.configs import mnist_mlp


def get_config() -> ConfigDict:
    """See the module's docstring."""
    config = mnist_mlp.get_config()
    config.name = "mnist_mlp_spawn_sweep"
    config.measures = ("lmc", "llfc")
    config.train.spawn_sweep = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
    return config
