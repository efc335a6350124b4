"""Two independent MLPs on MNIST, the second permuted into the basin of the first.

Papers: Git Re-Basin (Ainsworth et al. 2023), figure 2; LLFC (Zhou et al. 2023), section 3.

Expected: both ends 1.6 % test error; barrier 1.8 nats before and 0.003 nats after weight matching; LLFC
distance below 10 % of the baseline in every hidden layer after it. Runtime: 2 minutes on 2 CPU cores.

    llfc_jax --config=mnist_mlp_permutation
"""

from ml_collections import ConfigDict

from llfc_jax.configs import mnist_mlp


def get_config() -> ConfigDict:
    """See the module's docstring."""
    config = mnist_mlp.get_config()
    config.name = "mnist_mlp_permutation"
    config.train.pair = "independent"
    config.align.method = "weight_matching"
    config.corrections.repair = True
    return config
