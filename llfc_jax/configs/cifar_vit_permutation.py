"""Two independent small vision transformers on CIFAR-10, the second moved into the basin of the first.

Paper: Theus et al. 2025 (arXiv 2506.22712), generalised linear mode connectivity of transformers, whose
ViTs go from 1.69 nats to 0.36 by weight matching and to 0.00 by learned matching.

Two blocks of 64 dimensions read the 16 patches of 8 x 8 pixels, for 5 epochs of all images. Measured with
`--config.data.test_split=test[:2000] --config.measures=lmc,llfc`, the other methods with `--config.pair.a`
and `b` from the first's checkpoints (seed 0; 7 minutes of CPU time to train and measure, 10 to learn): ends
at 1.209 and 1.195 nats, 44.3 and 43.8 % test error. Barriers on the test set, in nats and points of error,
and the median layer's distance from the line in units of the nearer end's:

    as trained               0.916, 33.0    1.41
    weight_matching          0.640, 25.6    0.90
    procrustes_matching      0.113, 4.57    0.46
    learned_matching         0.0150, 1.26   0.74

Learned matching (1,600 steps) connects the pair, though 2,000 images can't exclude 2.5 points, but not
layer by layer: LLFC holds in 10 of its 33 layers, in 19 of Procrustes', and in the logits of neither. On the
training images the midpoint's loss falls from 2.139 to 1.620 by permutations, to 1.286 by the closed forms of
all maps, and to 1.133 by learning.

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
