"""A spawned pair of MLPs, 784-512-512-512-10, on MNIST: trunk of 2 epochs, children to epoch 6.

Paper: LLFC (Zhou et al. 2023), section 3, figure 2, by a shorter recipe than the paper's (Adam at 1.2e-4,
batches of 60, 30 epochs), which `llfc_jax reproduce llfc-mnist-mlp` takes.

Expected: both ends 1.5 % test error, barrier 0 nats, LLFC distance below 4 % of the baseline in every layer.
Runtime: 1.5 minutes on 2 CPU cores.

Beside two unconnected networks, measured in 7 minutes of CPU time with `--config.train.control=True
--config.replicates=5 --config.train.epochs=3 --config.train.spawn_epochs=1 --config.measures=lmc,llfc
--config.lmc.num_alphas=11` (half of the training): barriers on the test set 0 +- 0 nats and 0.00 +- 0.01
points, worst layer at 0.15 +- 0.01 of the nearer end's distance from the line, LMC and LLFC in 5 of 5; of A
and the control 1.874 +- 0.071 nats, 85.3 +- 2.1 points, 58 +- 13, neither in any. Permuted pairs:
`mnist_mlp_permutation`.

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
