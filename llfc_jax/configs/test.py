"""The whole run in seconds on a CPU: for tests and for trying things out.

llfc_jax --config=test
"""

from ml_collections import ConfigDict

from llfc_jax.configs import default


def get_config() -> ConfigDict:
    """See the module's docstring."""
    config = default.get_config()
    config.name = "test"
    config.measures = ("lmc", "llfc")
    config.data.train_split = "train[:256]"
    config.data.test_split = "test[:100]"
    config.model.hidden = (16, 16)
    config.train.epochs = 3
    config.train.spawn_epochs = 1.0
    config.train.batch_size = 32
    config.train.checkpoint_every_epochs = 1
    config.eval.batch_size = 64
    config.eval.train_examples = 100
    config.lmc.num_alphas = 5
    config.corrections.examples = 64
    return config
