"""Two independent MLPs on scikit-learn's digits, the second permuted into the basin of the first.

Papers: Git Re-Basin (Ainsworth et al. 2023), figure 2; LLFC (Zhou et al. 2023), section 3. No download.

Expected: both ends about 1 % test error; barrier 1.4 nats before and 0 nats after weight matching; LLFC
distance below 10 % of the baseline in every layer after it. Runtime: under a minute on 2 CPU cores.

    python -m llfc_jax.main --config=configs/digits_mlp_permutation.py
"""

from ml_collections import ConfigDict

from llfc_jax.configs import digits_mlp


def get_config() -> ConfigDict:
    """See the module's docstring."""
    config = digits_mlp.get_config()
    config.name = "digits_mlp_permutation"
    config.train.pair = "independent"
    config.align.method = "weight_matching"
    return config
