"""Two independent MLPs on scikit-learn's digits, the second permuted into the basin of the first.

Papers: Git Re-Basin (Ainsworth et al. 2023), figure 2; LLFC (Zhou et al. 2023), section 3. No download.

    python -m llfc_jax.main --config=configs/digits_mlp_permutation.py
"""

from ml_collections import ConfigDict

from configs import digits_mlp


def get_config() -> ConfigDict:
    """See the module's docstring."""
    config = digits_mlp.get_config()
    config.name = "digits_mlp_permutation"
    config.train.pair = "independent"
    config.align.method = "weight_matching"
    return config
