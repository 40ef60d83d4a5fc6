"""Fixtures for the tests of the components: noise images, Beam pipelines and real images."""

import functools
import hashlib
import json

import numpy as np
import pytest

from imgpipe.models import names
from tests import image_tables
from tests.components import filtered
from tests.models.banks import bank_row, write_examples, write_facts


@pytest.fixture
def encode():
    return filtered.encode


@pytest.fixture
def photos(tmp_path):
    """Return a function that writes files {path: content} into a folder of photographs."""
    return functools.partial(filtered.photographs, tmp_path / "photos")


@pytest.fixture(scope="session")
def broken_images(shared_data):
    """Return the manifest of the damaged files: what Pillow and TensorFlow say of each, by path."""
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
            image_tables.row(
                f"{label}/{i}.jpg",
                label=f"class {label}",
                label_index=int(label),
                split=names.SPLITS[i % len(names.SPLITS)],
                image_hash=hashlib.sha256(str(i).encode()).hexdigest(),
            )
            for i, label in enumerate(labels)
        ]
        image_tables.write(uri, images)
        rows = []
        for image, row in zip(images, features, strict=True):
            digest, label = image.image_hash, image.label_index
            rows.append((image.split, bank_row(digest, label, row)))
            if image.split == names.TRAIN:
                rows.append((image.split, bank_row(digest, label, np.zeros_like(row), view=1)))
        write_facts(write_examples(uri, rows), [features.shape[1]])
        return uri

    return make
