"""Two independent MLPs on MNIST, the second permuted into the basin of the first.

Papers: Git Re-Basin (Ainsworth et al. 2023), figure 2; LLFC (Zhou et al. 2023), section 3.

Expected: both ends 1.6 % test error; barrier 1.8 nats before and 0.003 nats after weight matching; LLFC
distance below 10 % of the baseline in every hidden layer after it. Runtime: 2 minutes on 2 CPU cores.

Matching on the paper's own objective, measured in 9 minutes of CPU time with `--config.replicates=5
--sweep align.method=weight_matching,commutativity_matching --config.train.epochs=3 --config.measures=lmc,llfc
--config.lmc.num_alphas=11 --config.corrections.repair=False` (half of the training, which leaves larger
barriers): 1.863 +- 0.062 nats and 83.6 +- 4.5 points of test error become 0.0193 +- 0.0047 and 0.21 +- 0.07
by weight matching, 0.0158 +- 0.0040 and 0.29 +- 0.13 by `commutativity_matching`; LMC in 5 of 5 by both.
LLFC, the mean of 1 - cos at alpha = 1/2, and in how many of the 5 commutativity has the lower:

                                relu1   dense2  relu2   dense3  relu3   dense4
    weight_matching             0.0292  0.0164  0.0382  0.0141  0.0274  0.0062
    commutativity_matching      0.0277  0.0142  0.0323  0.0115  0.0223  0.0058
                                3       5       5       5       5       4

So it is the better in every hidden layer. In units of the nearer end's distance it is so in the linear ones
alone, 0.164 and 0.146 in dense2 and dense3 for 0.200 and 0.187: after the ReLUs the ends are nearer to the
line, too, and it has 0.275, 0.403 and 0.343 for 0.267, 0.389 and 0.338.

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
