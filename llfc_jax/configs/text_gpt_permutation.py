"""Two independent small language models on the bytes of Shakespeare, the second permuted towards the first.

Papers: Git Re-Basin (Ainsworth et al. 2023); on transformers, Verma & Elbayad 2024 (arXiv 2403.00986).

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
    return config
