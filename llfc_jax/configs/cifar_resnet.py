"""A spawned pair of ResNet-20 (BatchNorm, pad shortcuts) on CIFAR-10, the paper's recipe.

Paper: LLFC (Zhou et al. 2023), section 3, figure 2.

Measured in 93 minutes on 2 cores of a shared machine, with `--config.train.epochs=5
--config.train.spawn_epochs=2 --config.eval.train_examples=2000`: ends 26.5 % and 25.4 % test error, barrier 0
nats and 0.10 points, LLFC distance 4.1 % of the baseline in the worst layer (dense).

Of three seeds after 1,248 steps (79 minutes beside other jobs, 68 of CPU time), with `--config.replicates=3
--config.measures=lmc,llfc --config.data.train_split=train[:10000] --config.data.test_split=test[:2000]
--config.train.batch_size=64 --config.train.epochs=8 --config.train.spawn_epochs=3
--config.eval.train_examples=1000 --config.lmc.num_alphas=11`: ends 38.3 ± 2.4 % and 38.6 ± 1.8 %, barrier 0
± 0 nats and 0.38 ± 0.33 points, 0.15 ± 0.16 with statistics recomputed, the worst layer (dense) at 0.21 ±
0.05 and 0.17 ± 0.01 of the nearer end's distance. LLFC holds in all, LMC in 2 of 3 and in 3 of 3: of one
pair 1,000 training images, whose error barrier is 1.06 points, are too few to exclude 2.06.

    llfc_jax --config=cifar_resnet
"""

from ml_collections import ConfigDict

from llfc_jax.configs import default


def get_config() -> ConfigDict:
    """See the module's docstring."""
    config = default.get_config()
    config.name = "cifar_resnet"
    config.data.name = "cifar10"
    config.data.augment = True
    config.model.name = "resnet20"
    config.train.epochs = 160
    config.train.spawn_epochs = 5.0
    config.train.batch_size = 128
    config.train.checkpoint_every_epochs = 1
    config.train.checkpoint_every_minutes = 1.0
    config.eval.batch_size = 50
    return config
