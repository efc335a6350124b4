"""A spawned pair of small language models on the bytes of Shakespeare: a GPT-2 of two blocks.

Paper: LLFC (Zhou et al. 2023), section 3, for what it says of vision; language models of two blocks here.

The text is TFDS's `tiny_shakespeare` (1.1 MB, downloaded once), or a file of your own:
`--config.data.name=FILE.txt`. `text_gpt_published` is the same at the size that such models usually have.

Measured in a minute of CPU time, with `--config.data.name=tinyshakespeare.txt --config.train.batch_size=16
--config.data.train_split=train[:8000] --config.data.test_split=test[:300] --config.eval.train_examples=100
--config.measures=lmc --config.lmc.num_alphas=5` (500 steps a network): ends at 2.315 and
2.319 nats a byte and 67 % test error, barrier 0 nats and 0.05 points.

    llfc_jax --config=text_gpt
"""

from ml_collections import ConfigDict

from llfc_jax.configs import default


def get_config() -> ConfigDict:
    """See the module's docstring."""
    config = default.get_config()
    config.name = "text_gpt"
    config.data.name = "tiny_shakespeare"
    config.data.augment = True
    config.data.block = 64
    config.model.name = "gpt"
    config.model.width = 0.25  # 64 dimensions
    config.model.blocks = 2
    config.model.heads = 2
    config.opt.name = "adamw"
    config.opt.learning_rate = 3e-3
    config.opt.beta2 = 0.99
    config.opt.weight_decay = 0.1
    config.opt.clip = 1.0
    config.opt.schedule = "cosine"
    config.opt.warmup = 0.1
    config.train.epochs = 1
    config.train.spawn_epochs = 0.3
    config.train.batch_size = 32
    config.train.checkpoint_every_epochs = 1
    config.eval.batch_size = 100
    config.eval.train_examples = 500
    config.lmc.num_alphas = 11
    config.corrections.examples = 500
    config.align.examples = 500
    return config
