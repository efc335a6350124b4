"""Pairs of MLPs on the digits, spawned at several epochs of one trunk: when do networks become connected?

Papers: Frankle et al. 2020, section 3 (LMC appears early in training); LLFC (Zhou et al. 2023), section 3
(LLFC with it).

Expected: the digits are so easy that a shared initialisation is enough for LMC; the LLFC distance still falls
more than tenfold from k = 0 to k = 8. Runtime: under a minute on 2 CPU cores.

    llfc_jax --config=digits_mlp_spawn_sweep
"""

from ml_collections import ConfigDict

from llfc_jax.configs import digits_mlp


def get_config() -> ConfigDict:
    """See the module's docstring."""
    config = digits_mlp.get_config()
    config.name = "digits_mlp_spawn_sweep"
    config.measures = ("lmc", "llfc")
    config.train.spawn_sweep = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
    return config
