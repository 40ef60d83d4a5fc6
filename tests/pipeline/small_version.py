"""Pushes a version of a small network without a run."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

CLASSES = ("paper", "rock")


def push(
    out: Path,
    seed: int = 1,
    learned: bool = False,
    near: Sequence[bytes] = (),
    classes: Sequence[str] = CLASSES,
) -> Path:
    """Push a network with random weights as the next version into an output folder.

    `learned` says whether the version has answers of folds, as if it had learned from validation;
    images that do not look like those in `near` are unlike all that it has learned.
    """
    from imgpipe.components.model_pusher import versions
    from imgpipe.models.names import OUT_OF_FOLD_FILE

    made = write(out / f"made-{seed}", classes, seed, near)
    if learned:
        (made / OUT_OF_FOLD_FILE).write_bytes(b"answers of the folds")
    published = versions.publish(out / "model", {"": made}, {"vocabulary": list(classes)})
    assert published is not None
    return published.folder


def write(
    folder: Path, classes: Sequence[str] = CLASSES, seed: int = 1, near: Sequence[bytes] = ()
) -> Path:
    """Write the SavedModel of such a network, and return its folder."""
    import keras

    from imgpipe.models.export.saved_model import export, write_digest
    from imgpipe.models.network import network_file
    from imgpipe.models.network.classifier import build_classifier
    from tests.network_settings import network_settings

    keras.utils.set_random_seed(seed)
    settings = network_settings(backbone="conv_4_8", weights="none", image_size=24)
    classifier = build_classifier(None, list(classes), settings)
    distribution = _around(classifier, near) if near else None
    export(classifier, str(folder), distribution=distribution)
    network_file.save(classifier, settings, str(folder))
    write_digest(classifier, str(folder), top_k=2)
    return folder


def _around(classifier, images: Sequence[bytes]):
    """Return a distribution of features in which these images are, and others are not."""
    from imgpipe.models.features import feature_distribution

    features = np.concatenate([answer["features"] for answer in classifier.outputs(images)])
    random = np.random.default_rng(0)
    near = np.concatenate([row + 1e-4 * random.normal(size=(60, len(row))) for row in features])
    labels = np.zeros(len(near), np.int64)
    known = feature_distribution.fit(near[::2].astype(np.float32), labels[::2], near[1::2])
    assert known is not None
    return known
