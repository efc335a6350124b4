"""Two independent ResNet-20 (LayerNorm, conv shortcuts) on CIFAR-10, the second permuted towards the first.

Papers: Git Re-Basin (Ainsworth et al. 2023), section 5.1: the wider (`--config.model.width=4` to 32), the
lower the barrier after matching; LLFC (Zhou et al. 2023), section 3. The recipe is Git Re-Basin's.

    python -m llfc_jax.main --config=configs/cifar_resnet_permutation.py
"""

from ml_collections import ConfigDict

from llfc_jax.configs import cifar_resnet


def get_config() -> ConfigDict:
    """See the module's docstring."""
    config = cifar_resnet.get_config()
    config.name = "cifar_resnet_permutation"
    config.model.norm = "layer"
    config.model.shortcut = "conv"
    config.opt.schedule = "cosine"
    config.opt.warmup = 0.02
    config.train.pair = "independent"
    config.train.epochs = 250
    config.train.batch_size = 100
    config.align.method = "weight_matching"
    config.corrections.repair = True
    return config
