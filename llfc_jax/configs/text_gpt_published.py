"""`text_gpt` at the size that byte-level language models of this text usually have: for a GPU.

6 blocks of width 256 with 4 heads, blocks of 256 bytes, 5,000 steps of 64: 4.9 million parameters.

    llfc_jax --config=text_gpt_published
"""

from ml_collections import ConfigDict

from llfc_jax.configs import text_gpt


def get_config() -> ConfigDict:
    """See the module's docstring."""
    config = text_gpt.get_config()
    config.name = "text_gpt_published"
    config.data.block = 256
    config.model.width = 1.0
    config.model.blocks = 6
    config.model.heads = 4
    config.opt.learning_rate = 1e-3
    config.train.epochs = 80
    config.train.spawn_epochs = 8.0
    config.train.batch_size = 64
    config.train.checkpoint_every_epochs = 10
    config.lmc.num_alphas = 25
    config.eval.train_examples = 2_000
    return config
