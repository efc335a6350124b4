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

Learned matching more than halves the barrier that weight matching leaves, and features become less linear in
all layers but the first. Measured on three pairs, `--config.replicates=3`, with `--config.measures=lmc,llfc
--config.corrections.repair=False`, the second method with `--config.pair.a` and `b` from the first's
checkpoints, on all training images twice (`--config.align.method=learned_matching --config.align.examples=0
--config.align.epochs=2`, 936 steps, 3.5 minutes of CPU time each); barriers on the test and the training set,
the mean of 1 - cos at alpha = 1/2:

                         test, nats        points         train, nats       points
    weight_matching      0.0059 +- 0.0031  0.24 +- 0.10   0.0202 +- 0.0013  0.48 +- 0.07
    learned_matching     0.0022 +- 0.0019  0.11 +- 0.05   0.0068 +- 0.0014  0.26 +- 0.02

                         relu1   dense2  relu2   dense3  relu3   dense4
    weight_matching      0.0294  0.0160  0.0368  0.0132  0.0223  0.0060
    learned_matching     0.0278  0.0199  0.0376  0.0226  0.0250  0.0090

Few images are learned by heart. Of the first pair of 3 epochs, 0.0154 nats by weight matching become 0.0069
with 5,000 images in 5 epochs (195 steps), and 0.0112 with 20,000 in 10 (1,560 steps), which leave no barrier
on training images (midpoint 0.028 nats, ends 0.033 and 0.036).

Sinkhorn's relaxation is as good as straight-through, for three times the CPU time. One pair of 3 epochs by
`--config.align.method=learned_matching` (5,000 images, 195 steps), both ends from one workdir's checkpoints:

    --config.align.relaxation     test, nats  points  train, nats  points  CPU-s of the command
    (weight_matching)             0.0148      0.23    0.0256       0.45
    straight_through              0.0078      0.14    0.0159       0.36    56
    sinkhorn                      0.0068      0.15    0.0148       0.33    168

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
