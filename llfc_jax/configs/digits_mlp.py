"""A spawned pair of MLPs on scikit-learn's handwritten digits: real data, no download, a minute on a CPU.

Paper: LLFC (Zhou et al. 2023), the setting of section 3 in small.

Expected: both ends about 1 % test error, barrier 0 nats, LLFC distance below 5 % of the baseline.
Runtime: under a minute on 2 CPU cores, compilation included.

    llfc_jax --config=digits_mlp
"""

from ml_collections import ConfigDict

from llfc_jax.configs import default


def get_config() -> ConfigDict:
    """See the module's docstring."""
    config = default.get_config()
    config.name = "digits_mlp"
    config.model.hidden = (128, 128, 128)
    return config
