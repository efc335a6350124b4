"""Image datasets as arrays in memory: of TFDS (without TensorFlow), scikit-learn, or one's own."""

from llfc_jax.data.dataset import Dataset, Split, subset
from llfc_jax.data.images import augment, normalise
from llfc_jax.data.loading import DATASETS, load

__all__ = ["DATASETS", "Dataset", "Split", "augment", "load", "normalise", "subset"]
