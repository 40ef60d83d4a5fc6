"""Answers for the images that a model has learned from, by networks that have not seen them.

Where folds judge, the model learns from all of their images. What it answers for one of them says
nothing about new images, so the answers of the folds lie in a file beside the model.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imgpipe.models.errors import ResourceError
from imgpipe.models.head.answers import Answers
from imgpipe.models.head.calibration import Calibration, softmax
from imgpipe.models.names import feature_names as names
from imgpipe.models.names.arrays import Integers
from imgpipe.models.names.model_names import OUT_OF_FOLD_FILE

#: Fields of `OutOfFold` in their order by the names under which they are stored.
_COLUMNS = {
    names.IMAGE_HASH: "hashes",
    names.LABEL_INDEX: "labels",
    names.PROBABILITIES: "probabilities",
    names.PREDICTED: "predicted",
    names.GROUP: "families",
}


@dataclass(frozen=True)
class OutOfFold:
    """The answers of the folds as the served model would give them.

    Attributes:
        hashes: Content hash of each image, bytes [n].
        labels: Label index of each image, int64 [n].
        probabilities: Calibrated probabilities, float32 [n, C].
        predicted: Label that would be served, which may be `feature_names.UNKNOWN`, bytes [n].
        families: Name of the family of each image, which stays in one fold, bytes [n].
    """

    hashes: npt.NDArray[np.bytes_]
    labels: Integers
    probabilities: npt.NDArray[np.float32]
    predicted: npt.NDArray[np.bytes_]
    families: npt.NDArray[np.bytes_]

    @classmethod
    def of(cls, answers: Answers, vocabulary: Sequence[str], calibration: Calibration) -> OutOfFold:
        """Return calibrated answers.

        Args:
            answers: Answers of the networks of all folds, with the hashes of the images and the
                groups that stay in one fold.
            vocabulary: Class names in the order of the logits.
            calibration: Calibration of the model that is served.
        """
        probabilities = softmax(answers.logits / calibration["temperature"])
        # What a network could not learn is not predicted by chance either; see `Answers.right`.
        places = np.flatnonzero(~answers.answerable)
        probabilities[places, answers.labels[places]] = 0
        classes = np.array([name.encode() for name in vocabulary])[probabilities.argmax(axis=1)]
        unknown = probabilities.max(axis=1) < calibration["unknown_below"]
        predicted = np.where(unknown, names.UNKNOWN.encode(), classes)
        hashes = np.asarray(answers.hashes)
        families = hashes if answers.groups is None else answers.groups
        return cls(hashes, answers.labels, probabilities, predicted, families)

    def family_of(self) -> dict[bytes, bytes]:
        """Return the family of each image by its content hash."""
        return dict(zip(self.hashes.tolist(), self.families.tolist(), strict=True))

    @classmethod
    def read(cls, directory: str) -> OutOfFold | None:
        """Read the answers beside a SavedModel; None if it has not learned from such images.

        Raises:
            ResourceError: The file is damaged.
        """
        import tensorflow as tf

        path = _path(directory)
        if not directory or not tf.io.gfile.exists(path):
            return None
        try:
            with tf.io.gfile.GFile(path, "rb") as file, np.load(io.BytesIO(file.read())) as stored:
                return cls(*(stored[name] for name in _COLUMNS))
        except Exception as error:  # NumPy, zipfile and zlib raise errors of many kinds
            raise ResourceError(
                f"{path} is damaged ({type(error).__name__}: {error}). It holds the answers for "
                "the images that the model has learned from. Run again with --from Baseline"
            ) from error

    def write(self, directory: str) -> None:
        """Write the answers beside a SavedModel."""
        import tensorflow as tf

        columns = {column: getattr(self, field) for column, field in _COLUMNS.items()}
        content = io.BytesIO()
        np.savez(content, **columns)
        path = _path(directory)
        tf.io.gfile.makedirs(path.rpartition("/")[0])
        with tf.io.gfile.GFile(path, "wb") as file:
            file.write(content.getvalue())


def _path(directory: str) -> str:
    return f"{directory.rstrip('/')}/{OUT_OF_FOLD_FILE}"
