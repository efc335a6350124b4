"""Two independent VGG-16 (LayerNorm, no hidden head) on CIFAR-10, the second permuted into the first's basin.

Papers: Git Re-Basin (Ainsworth et al. 2023), section 5.1; LLFC (Zhou et al. 2023), section 3. The recipe is
Git Re-Basin's. LLFC's authors found no VGG pair that permutations connect: expect a barrier.

    llfc_jax --config=cifar_vgg_permutation
"""

from ml_collections import ConfigDict

from llfc_jax.configs import cifar_resnet_permutation


def get_config() -> ConfigDict:
    """See the module's docstring."""
    config = cifar_resnet_permutation.get_config()
    config.name = "cifar_vgg_permutation"
    config.model.name = "vgg16"
    config.model.shortcut = None
    config.model.head = ()
    return config
