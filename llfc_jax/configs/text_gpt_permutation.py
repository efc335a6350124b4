"""Two independent small language models on the bytes of Shakespeare, the second permuted towards the first.

Papers: Git Re-Basin (Ainsworth et al. 2023); on transformers, Verma & Elbayad 2024 (arXiv 2403.00986).

Measured in a minute of CPU time, with `--config.data.name=tinyshakespeare.txt --config.train.batch_size=16
--config.data.train_split=train[:8000] --config.data.test_split=test[:300] --config.eval.train_examples=100
--config.measures=lmc --config.lmc.num_alphas=5` (500 steps a network): ends at 2.319 and 2.339 nats a byte;
barriers on the test set, in nats and points of error: 0.658 and 11.9 before, 0.307 and 8.1 after weight
matching, 0.264 and 6.7 after activation matching, 0.241 and 7.6 by `procrustes_matching`, 0.120 and 3.1 after
the straight-through estimator, 0.043 and 0.6 by `learned_matching`. The last two take 1,000 steps, two epochs
of 8,000 blocks, and about five minutes more.

With `--sweep align.method=weight_matching,procrustes_matching --config.replicates=3`: 0.612 +- 0.088 and
12.4 +- 1.0 before, 0.268 +- 0.034 and 7.03 +- 1.00 after weight matching, 0.259 +- 0.038 and 6.98 +- 0.72 by
`procrustes_matching`, which over seeds is no better.

What is left is the tied embedding's: it can't take in the scale of the last norm, so that the stream may be
permuted but not rotated. With `--config.model.tied=False`: 0.482 before, 0.319 after weight matching, 0.046
by `procrustes_matching`, and 0 by `learned_matching` of 2,000 blocks over 4 epochs (500 steps), where the
midpoint is 0.011 better than the ends.

    llfc_jax --config=text_gpt_permutation
"""

from ml_collections import ConfigDict

from llfc_jax.configs import text_gpt


def get_config() -> ConfigDict:
    """See the module's docstring."""
    config = text_gpt.get_config()
    config.name = "text_gpt_permutation"
    config.train.pair = "independent"
    config.align.method = "weight_matching"
    config.align.examples = 8_000
    config.align.epochs = 2
    return config
