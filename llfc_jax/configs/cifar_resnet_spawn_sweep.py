"""Pairs of ResNet-20 on CIFAR-10, spawned at several epochs of one trunk: when do networks become connected?

Papers: Frankle et al. 2020, section 3 (LMC appears early in training); LLFC (Zhou et al. 2023), section 3
(LLFC with it).

    llfc_jax --config=cifar_resnet_spawn_sweep
"""

from ml_collections import ConfigDict

from llfc_jax.configs import cifar_resnet


def get_config() -> ConfigDict:
    """See the module's docstring."""
    config = cifar_resnet.get_config()
    config.name = "cifar_resnet_spawn_sweep"
    config.measures = ("lmc", "llfc")
    config.train.spawn_sweep = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0)
    return config
