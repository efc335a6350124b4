"""Images and texts, in memory or streamed: of TFDS (without TensorFlow), scikit-learn, or one's own.

`digits` is bundled with scikit-learn. `mnist`, `cifar10`, `cifar100`, `fashion_mnist` and other image sets of
TFDS are read from ArrayRecord without TensorFlow; if they are not in `--config.data.data_dir` (by default
TFDS's own), they are downloaded and prepared there, also without TensorFlow. Where there is no network,
archives can be placed by hand in `DATA_DIR/downloads/manual/NAME/`. What TFDS has no builder of is read from
`DATA_DIR/NAME/VERSION/` or `DATA_DIR/NAME/VARIANT/VERSION/`, where TFDS wrote it: `dataset_info.json`,
`features.json` with an `image` and a `label`, and files such as `NAME-train.array_record-00000-of-00016`.

A set that takes more than `--config.data.memory` (GiB, as uint8; by default a quarter of the memory) is
streamed: grain reads, decodes and crops batches ahead of their use, in `--config.data.workers` processes, or
in threads. Each process of a run reads the rows of a batch that its devices hold. The order is that of a set
in memory, a function of seed and epoch, and so are the batches, bit for bit. A split or a subset that takes a
quarter of that memory at most is held. The fingerprint of what is streamed is of its files' names and sizes,
and of 64 records.

Images of any size are cut to `--config.data.size`: in evaluation the centre, after the shorter side is
resized to `data.resize`; in training the same, or with `data.crop=resized` parts of random size and place,
which are always streamed.

Images of your own come as `--config.data.name=FILE.npz`, with arrays `train_image`, `train_label`,
`test_image`, `test_label`, or `image` and `label` alone, which then serve as both splits. Images are
(n, height, width[, channels]), uint8, or floats that are taken as they are; `num_classes` may be added where
the highest label is missing. Splits are TFDS expressions, such as `train[:10000]`, for all of them;
of images in memory `data.classes` keeps those of some labels to train on, and all to test on.

Texts, for language models, are `tiny_shakespeare` and other TFDS sets of `text` alone, or your own in UTF-8
as `--config.data.name=FILE.txt`, whose last tenth is the test split. They are read as bytes: an example is a
block of `--config.data.block` bytes, labelled by the byte after each; blocks don't overlap. Like `.npz`
files, they are held in memory.
"""

from llfc_jax.data.dataset import Dataset, Examples, Split, subset
from llfc_jax.data.images import augment, normalise
from llfc_jax.data.loading import DATASETS, load

__all__ = ["DATASETS", "Dataset", "Examples", "Split", "augment", "load", "normalise", "subset"]
