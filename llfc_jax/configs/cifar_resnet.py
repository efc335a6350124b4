"""A spawned pair of ResNet-20 (BatchNorm, pad shortcuts) on CIFAR-10, the paper's recipe.

Paper: LLFC (Zhou et al. 2023), section 3, figure 2.

Measured in 93 minutes on 2 cores of a shared machine, with `--config.train.epochs=5
--config.train.spawn_epochs=2 --config.eval.train_examples=2000`: ends 26.5 % and 25.4 % test error, barrier 0
nats and 0.10 points, LLFC distance 4.1 % of the baseline in the worst layer (dense).

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
