"""Fixtures that several tests of the report share."""

import hashlib

import numpy as np
import pytest

from imgpipe.components.storage import records
from imgpipe.models import feature_names as names


@pytest.fixture
def timings():
    """Return the timings of a run as the local runner keeps them, in seconds."""
    return {
        "total_s": 61.0,
        "import_s": 12.0,
        "components": {"FeatureBank": 30.0, "ImageTrainer": 9.5, "SchemaGen": 0.5},
        "cached": ["SchemaGen"],
    }


@pytest.fixture
def bank(tmp_path):
    """Return a function (features, labels) → URI of a feature bank.

    Every third image is in train, where it also has an augmented view whose features are zero.
    """

    def make(features, labels):
        uri = str(tmp_path / "bank")
        paths = {s: records.shard_path(uri, s, 0, 1) for s in names.SPLITS}
        with records.ShardWriter(paths) as writer:
            for i, (row, label) in enumerate(zip(features, labels, strict=True)):
                split = names.SPLITS[i % len(names.SPLITS)]
                for view in (0, 1) if split == names.TRAIN else (0,):
                    values = np.zeros_like(row) if view else row
                    example = records.make(
                        {
                            names.SPLIT: split,
                            names.VIEW: view,
                            names.IMAGE_HASH: hashlib.sha256(str(i).encode()).hexdigest(),
                            names.PATH: f"{label}/{i}.jpg",
                            names.LABEL_INDEX: int(label),
                            names.FEATURES: values.astype("<f2").tobytes(),
                        }
                    )
                    writer.write(split, example)
        records.write_json(f"{uri}/bank.json", {"dim": features.shape[1]})
        return uri

    return make
