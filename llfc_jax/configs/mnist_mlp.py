"""A spawned pair of MLPs, 784-512-512-512-10, on MNIST: trunk of 2 epochs, children to epoch 6.

Paper: LLFC (Zhou et al. 2023), section 3, figure 2, by a shorter recipe than the paper's (Adam at 1.2e-4,
batches of 60, 30 epochs), which `llfc_jax reproduce llfc-mnist-mlp` takes.

Expected: both ends 1.5 % test error, barrier 0 nats, LLFC distance below 4 % of the baseline in every layer.
Runtime: 1.5 minutes on 2 CPU cores.

    llfc_jax --config=mnist_mlp
"""

from ml_collections import ConfigDict

from llfc_jax.configs import default


def get_config() -> ConfigDict:
    """See the module's docstring."""
    config = default.get_config()
    config.name = "mnist_mlp"
    config.data.name = "mnist"
    config.train.epochs = 6
    config.train.spawn_epochs = 2.0
    config.train.batch_size = 128
    config.train.checkpoint_every_epochs = 2
    return config
