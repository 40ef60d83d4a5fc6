"""Fixtures of the tests of `models/` that draw images and write Examples and banks."""

import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest

from imgpipe.models import names
from tests.images import encoded, soft
from tests.models import noise_data
from tests.models.banks import write_facts

Draw = Callable[..., bytes]
WriteRecords = Callable[..., str]

DIM = 16


@pytest.fixture(scope="session")
def draw() -> Draw:
    """Return a function that encodes an image of smooth random colours.

    It is called as `draw(seed, size=(width, height), format="JPEG")` and returns bytes.
    """

    def drawn(seed: int, size: tuple[int, int] = (80, 60), format: str = "JPEG") -> bytes:
        return encoded(soft(seed, size), format)

    return drawn


@pytest.fixture(scope="session")
def write_records() -> WriteRecords:
    """Return a function that writes dicts of bytes or int as a TFRecord file of tf.Examples.

    It is called as `write_records(path, rows)` and returns the path as a string.
    """
    import tensorflow as tf

    def feature(value: object) -> tf.train.Feature:
        if isinstance(value, bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    def write(path: Path, rows: list[dict[str, object]]) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tf.io.TFRecordWriter(str(path)) as writer:
            for row in rows:
                features = {name: feature(value) for name, value in row.items()}
                example = tf.train.Example(features=tf.train.Features(feature=features))
                writer.write(example.SerializeToString(deterministic=True))
        return str(path)

    return write


@pytest.fixture(scope="session")
def write_bank(write_records: WriteRecords) -> Callable[..., str]:
    """Return a function that writes a bank whose classes are clouds of points.

    It is called as `write_bank(directory, classes, dim, ...)` and returns the path as a string. A
    split has `images` images of each class, or as many as `sizes` says. `spread` is the standard
    deviation of a class, and `shuffle` the seed of another order of the Examples.
    """

    def write(
        directory: Path,
        classes: int = 3,
        dim: int = DIM,
        images: int = 20,
        views: int = 3,
        spread: float = 0.5,
        shuffle: int | None = None,
        sizes: dict[str, int] | None = None,
    ) -> str:
        random = np.random.default_rng(7)
        centres = random.normal(size=(classes, dim))
        for first, split in enumerate(names.SPLITS):
            rows = []
            for image in range((sizes or {}).get(split, images) * classes):
                label = image % classes
                for view in range(views if split == names.TRAIN else 1):
                    point = centres[label] + spread * random.normal(size=dim)
                    rows.append(
                        {
                            names.FEATURES: point.astype("<f2").tobytes(),
                            names.LABEL_INDEX: label,
                            names.VIEW: view,
                            names.IMAGE_HASH: b"%064x" % (image * 7919 % 10007 + 10007 * first),
                        }
                    )
            if shuffle is not None:
                np.random.default_rng(shuffle).shuffle(rows)
            write_records(directory / f"Split-{split}" / "data_tfrecord-00000-of-00001", rows)
        write_facts(directory, [dim])
        return str(directory)

    return write


@pytest.fixture(scope="session")
def noise_images(write_records: WriteRecords, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the images of `noise_data`."""
    return noise_data.write_images(tmp_path_factory.mktemp("examples"), write_records)


@pytest.fixture(scope="session")
def noise_bank(
    noise_images: Path, write_records: WriteRecords, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """Return the path of the bank of the images of `noise_data`."""
    folder = tmp_path_factory.mktemp("bank")
    return noise_data.write_features(noise_images, folder, write_records)
