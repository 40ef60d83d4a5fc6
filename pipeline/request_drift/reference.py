"""Reads the reference of a served version: statistics, schema and predictions.

Statistics and schema of the training data are in the version's own folder. The predictions on the
validation split stay among the artifacts of the run that published it. This module imports TFX.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from imgpipe.components.common.storage import integrity, manifest, records
from imgpipe.models.errors import ResourceError
from imgpipe.models.features import feature_distribution
from imgpipe.models.features.feature_distribution import FeatureDistribution
from imgpipe.models.names import feature_names as names
from imgpipe.pipeline.output.output_folder import OutputFolder


@dataclass(frozen=True)
class Predictions:
    """Predictions of a model on its validation split.

    Attributes:
        labels: The label that was answered for each image.
        confidence: The highest probability of each image, float32 [N].
    """

    labels: list[str]
    confidence: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Reference:
    """The data with which the requests of one version are compared.

    Attributes:
        version: The version.
        schema: The accepted schema of its training data.
        statistics: Statistics of its data by split.
        predictions: Its predictions on validation; None if they no longer exist.
        missing: Why there are no predictions; "" if there are some.
        features: Distribution of the features of the training images; None if it was not stored.
    """

    version: manifest.PublishedVersion
    schema: schema_pb2.Schema
    statistics: Mapping[str, statistics_pb2.DatasetFeatureStatisticsList]
    predictions: Predictions | None
    missing: str = ""
    features: FeatureDistribution | None = None


def load(version: manifest.PublishedVersion) -> Reference:
    """Read the reference of a version.

    Args:
        version: The version, which is intact.

    Returns:
        Statistics, schema and, where they still exist, predictions and distribution of the
        features.

    Raises:
        ResourceError: The version has no statistics, or its predictions are damaged.
    """
    from imgpipe.components.data_gate import data_gate

    beside = version.path / manifest.PROVENANCE
    statistics = data_gate.read_statistics(str(beside / "statistics"))
    if not statistics or not (beside / "schema").is_dir():
        raise ResourceError(
            f"version {version.number} in {version.path.parent} has no statistics of its training "
            f"data beside it (expected {beside / 'statistics'}). Run `imgpipe run` and serve the "
            "version that it publishes."
        )
    schema = data_gate.read_schema(str(beside / "schema"))
    predictions, missing = _predictions(version)
    features = feature_distribution.load(str(version.path))
    return Reference(version, schema, statistics, predictions, missing, features)


def _predictions(version: manifest.PublishedVersion) -> tuple[Predictions | None, str]:
    """Read what the runs that published a version recorded, the newest first."""
    folder = version.path.absolute()
    out = folder.parent.parent
    for run in reversed(OutputFolder(out).publishers(folder)):
        uri = run.artifact("Predictor", "predictions")
        if not uri:
            continue
        damage = integrity.damage(Path(uri), complete=True)
        if damage:
            raise ResourceError(f"{uri} is damaged: {damage}. Run `imgpipe run` to make it again.")
        labels: list[str] = []
        confidence = []
        for example in records.iterate(uri, names.VALIDATION):
            labels.append(records.text(example, names.PREDICTED))
            confidence.append(max(records.floats(example, names.PROBABILITIES)))
        if labels:
            return Predictions(labels, np.array(confidence, np.float32)), ""
    return None, f"{out} holds no run with predictions of this model"
