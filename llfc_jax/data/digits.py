"""The 8×8 handwritten digits bundled with scikit-learn: 1797 real images, no download."""

import hashlib
from importlib.metadata import distribution

import numpy as np

from llfc_jax.data.dataset import Source, Split, in_memory


def open_digits() -> Source:
    """Opens the digits with a fixed stratified split: 1437 to train on, 360 to test on.

    The examples are ordered by the hash of their pixels, so that any slice is a fair sample of classes and
    writers (TFDS orders its examples in the same way). Every fifth example of this order, class by class, is
    a test example. No random generator is involved, so the split is the same with all versions of NumPy.

    Pixel values 0..16 are scaled to 0..255.
    """
    # As `sklearn.datasets.load_digits` has them, whose import takes longer than a short run's training.
    file = distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    rows = np.loadtxt(str(file), np.float64, delimiter=",")
    images = np.rint(rows[:, :-1].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    order = sorted(range(len(images)), key=lambda i: hashlib.sha256(images[i].tobytes()).digest())
    images, labels = images[order], rows[order, -1].astype(np.int32)

    is_test = np.zeros(len(labels), bool)
    is_test[np.argsort(labels, kind="stable")[::5]] = True
    splits = {
        "train": Split(images[~is_test], labels[~is_test]),
        "test": Split(images[is_test], labels[is_test]),
    }
    return in_memory(splits, 10)
