"""Directories of TFDS, written without TFDS: ArrayRecord files of encoded images, with their metadata."""

import io
import json
import warnings

import numpy as np
from PIL import Image

with warnings.catch_warnings():  # its import warns of what others have deprecated
    warnings.simplefilter("ignore")
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.proto import tf_example_pb2

_FEATURES = "tensorflow_datasets.core.features"


def examples(generator, count, sizes, classes):
    """Random images in colour with sides in [least, most), and their labels."""
    shapes = [(*generator.integers(*sizes, 2), 3) for _ in range(count)]
    images = [generator.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    return images, generator.integers(0, classes, count)


def write(root, place, splits, *, classes, shape=(None, None, 3), shards=2, kind="png", named=False):
    """Write a data set in either of TFDS's layouts.

    Args:
        root: the data directory.
        place: `name/version` or `name/config/version`.
        splits: name -> (images, labels); an image is an array, or bytes as they are; a label is one, or some.
        classes: number of classes.
        shape: that the metadata claim.
        shards: files of each split.
        kind: png or jpeg.
        named: whether there is a `file_name` beside image and label, as ImageNet has.
    """
    directory = root / place
    directory.mkdir(parents=True)
    name, *config, version = place.split("/")
    image = {
        "pythonClassName": f"{_FEATURES}.image_feature.Image",
        "image": {"dtype": "uint8", "shape": {"dimensions": [str(side or -1) for side in shape]}},
    }
    label = {
        "pythonClassName": f"{_FEATURES}.class_label_feature.ClassLabel",
        "classLabel": {"numClasses": str(classes)},
    }
    features = {"image": image, "label": label}
    if named:
        features["file_name"] = {"pythonClassName": f"{_FEATURES}.text_feature.Text", "text": {}}
    described = {
        "pythonClassName": f"{_FEATURES}.features_dict.FeaturesDict",
        "featuresDict": {"features": features},
    }
    (directory / "features.json").write_text(json.dumps(described))
    info = {"name": name, "version": version, "fileFormat": "array_record", "splits": []}
    info |= {"configName": config[0]} if config else {}
    for split, (images, labels) in splits.items():
        parts = np.array_split(np.arange(len(labels)), shards)
        sizes = []
        for number, part in enumerate(parts):
            file = directory / f"{name}-{split}.array_record-{number:05d}-of-{shards:05d}"
            writer = ArrayRecordWriter(str(file), "group_size:1")
            for index in part.tolist():
                writer.write(_example(images[index], labels[index], kind, f"{index}.x" if named else None))
            writer.close()
            sizes.append(file.stat().st_size)
        info["splits"].append(
            {
                "name": split,
                "numBytes": str(sum(sizes)),
                "shardLengths": [str(len(part)) for part in parts],
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            }
        )
    (directory / "dataset_info.json").write_text(json.dumps(info))


def encoded(image, kind):
    """The bytes of a file of that kind."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind)
    return buffer.getvalue()


def _example(image, label, kind, file_name):
    found = tf_example_pb2.Example()
    feature = found.features.feature
    content = image if isinstance(image, bytes) else encoded(image, kind)
    feature["image"].bytes_list.value.append(content)
    feature["label"].int64_list.value.extend(int(one) for one in np.atleast_1d(label))
    if file_name is not None:
        feature["file_name"].bytes_list.value.append(file_name.encode())
    return found.SerializeToString(deterministic=True)
