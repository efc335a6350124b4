"""A spawned pair of LeNet-5 on MNIST: trunk of 2 epochs, children to epoch 6.

Paper: LLFC (Zhou et al. 2023), section 3, figure 2.

    llfc_jax --config=mnist_lenet
"""

from ml_collections import ConfigDict

from llfc_jax.configs import mnist_mlp


def get_config() -> ConfigDict:
    """See the module's docstring."""
    config = mnist_mlp.get_config()
    config.name = "mnist_lenet"
    config.model.name = "lenet"
    config.opt.learning_rate = 0.05
    return config
