"""Two independent small vision transformers on CIFAR-10, the second moved into the basin of the first.

Paper: Theus et al. 2025 (arXiv 2506.22712), generalised linear mode connectivity of transformers, whose
larger ViTs go from 1.69 nats to 0.36 by weight matching and to 0.00 by learned matching. Here 2 blocks of
64 dimensions read the 16 patches of 8 x 8 pixels, which a CPU trains in minutes.

    llfc_jax --config=cifar_vit_permutation
"""

from ml_collections import ConfigDict

from llfc_jax.configs import default


def get_config() -> ConfigDict:
    """See the module's docstring."""
    config = default.get_config()
    config.name = "cifar_vit_permutation"
    config.data.name = "cifar10"
    config.model.name = "vit"
    config.model.width = 1 / 3  # 64 dimensions
    config.model.patch = 8
    config.model.blocks = 2
    config.model.heads = 2
    config.opt.name = "adamw"
    config.opt.learning_rate = 2e-3
    config.opt.weight_decay = 0.1
    config.opt.clip = 1.0
    config.opt.schedule = "cosine"
    config.opt.warmup = 0.1
    config.train.pair = "independent"
    config.train.epochs = 5
    config.train.batch_size = 100
    config.train.checkpoint_every_epochs = 1
    config.eval.train_examples = 2_000
    config.lmc.num_alphas = 11
    config.align.method = "weight_matching"
    config.align.examples = 20_000
    config.align.epochs = 8
    return config
