"""Images and texts as arrays in memory: of TFDS (without TensorFlow), scikit-learn, or one's own.

`digits` is bundled with scikit-learn. `mnist`, `cifar10`, `cifar100`, `fashion_mnist` and other image sets of
TFDS are read from ArrayRecord without TensorFlow; if they are not in `--config.data.data_dir` (by default
TFDS's own), they are downloaded and prepared there, also without TensorFlow. Where there is no network,
archives can be placed by hand in `DATA_DIR/downloads/manual/NAME/`. A data set must fit in memory as uint8.

Images of your own come as `--config.data.name=FILE.npz`, with arrays `train_image`, `train_label`,
`test_image`, `test_label`, or `image` and `label` alone, which then serve as both splits. Images are
(n, height, width[, channels]), uint8, or floats that are taken as they are; `num_classes` may be added where
the highest label is missing. Splits are TFDS expressions, such as `train[:10000]`, for all of them.

Texts, for language models, are `tiny_shakespeare` and other TFDS sets of `text` alone, or your own in UTF-8
as `--config.data.name=FILE.txt`, whose last tenth is the test split. They are read as bytes: an example is a
block of `--config.data.block` bytes, labelled by the byte after each; blocks don't overlap.
"""

from llfc_jax.data.dataset import Dataset, Examples, Split, subset
from llfc_jax.data.images import augment, normalise
from llfc_jax.data.loading import DATASETS, load

__all__ = ["DATASETS", "Dataset", "Examples", "Split", "augment", "load", "normalise", "subset"]
