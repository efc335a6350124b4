"""A spawned pair of VGG-16 (BatchNorm, 4096-wide head) on CIFAR-10, the paper's recipe.

Paper: LLFC (Zhou et al. 2023), section 3, figure 2.

    llfc_jax --config=cifar_vgg
"""

from ml_collections import ConfigDict

from llfc_jax.configs import cifar_resnet


def get_config() -> ConfigDict:
    """See the module's docstring."""
    config = cifar_resnet.get_config()
    config.name = "cifar_vgg"
    config.model.name = "vgg16"
    config.model.norm = "batch"
    config.eval.batch_size = 32  # keeps the path's memory below 2 GB
    return config
