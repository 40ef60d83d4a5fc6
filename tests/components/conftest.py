"""Fixtures for the tests of the components: noise images, Beam pipelines and real images."""

import functools
import hashlib
import json

import numpy as np
import pytest

from imgpipe.components.common import row_files
from imgpipe.components.common.image_row import ImageRow
from imgpipe.components.common.storage import records
from imgpipe.models import names
from tests.components import filtered
from tests.models.banks import write_facts


@pytest.fixture
def encode():
    """Return `filtered.encode`."""
    return filtered.encode


@pytest.fixture
def photos(tmp_path):
    """Return a function that writes files {path: content} into a folder of photographs."""
    return functools.partial(filtered.photographs, tmp_path / "photos")


@pytest.fixture
def beam_pipeline():
    """Return a function that makes a Beam pipeline with the given flags.

    Its runner runs in this process and never uses the network.
    """
    return filtered.beam_pipeline


@pytest.fixture(scope="session")
def broken_images(shared_data):
    """Return what Pillow and TensorFlow say about each damaged file.

    The keys are paths below the data folder, and the values are the entries of the manifest.
    """
    entries = json.loads((shared_data / "broken_images/manifest.json").read_text())
    return {entry["path"]: entry for entry in entries}


@pytest.fixture
def bank(tmp_path):
    """Return a function (features, labels) → URI of a feature bank, and of the table of its images.

    Every third image is in train, where it also has an augmented view whose features are zero.
    """

    def make(features, labels):
        uri = str(tmp_path / "bank")
        images = [
            ImageRow(
                f"{label}/{i}.jpg",
                label_index=int(label),
                split=names.SPLITS[i % len(names.SPLITS)],
                image_hash=hashlib.sha256(str(i).encode()).hexdigest(),
            )
            for i, label in enumerate(labels)
        ]
        row_files.write(row_files.shard_path(uri, 0, 1), images)
        paths = {s: records.shard_path(uri, s, 0, 1) for s in names.SPLITS}
        with records.ShardWriter(paths) as writer:
            for i, (row, label) in enumerate(zip(features, labels, strict=True)):
                split = images[i].split
                for view in (0, 1) if split == names.TRAIN else (0,):
                    values = np.zeros_like(row) if view else row
                    example = records.make(
                        {
                            names.VIEW: view,
                            names.IMAGE_HASH: images[i].image_hash,
                            names.LABEL_INDEX: int(label),
                            names.FEATURES: values.astype("<f2").tobytes(),
                        }
                    )
                    writer.write(split, example)
        write_facts(uri, [features.shape[1]])
        return uri

    return make
