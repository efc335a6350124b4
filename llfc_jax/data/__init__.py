"""Image datasets as arrays in memory, from TFDS (without TensorFlow) or bundled with scikit-learn."""

from llfc_jax.data.dataset import Dataset, Split, subset
from llfc_jax.data.images import augment, normalise
from llfc_jax.data.loading import DATASETS, load

__all__ = ["DATASETS", "Dataset", "Split", "augment", "load", "normalise", "subset"]
