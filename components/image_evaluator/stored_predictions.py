"""TFMA's extractors for the predictions that Predictor has stored.

With up to 1,000 classes a stored prediction holds the probabilities of all classes, which TFMA
reads by itself. With more it holds those of some classes, and TFMA needs all of them. They are
completed here in batches, so that neither the artifact nor the memory holds them for all images.
"""

from __future__ import annotations

from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow_model_analysis as tfma

from imgpipe.components.predictor import prediction
from imgpipe.models import feature_names as names

#: The function below, as TFX's Evaluator executor takes it.
EXTRACTORS = f"{__name__}.extractors"
_FEATURES = tfma.FEATURES_KEY


def extractors(eval_config: tfma.EvalConfig, **given: Any) -> list[Any]:
    """Return TFMA's default extractors, with one that completes the predictions.

    Args:
        eval_config: The EvalConfig, whose models are of the type "materialized_prediction".
        **given: Further arguments of `tfma.default_extractors`.
    """
    # The first of them reads the features, and those after it take the predictions from there.
    first, *rest = tfma.default_extractors(eval_config=eval_config, **given)
    completed = tfma.extractors.Extractor(
        stage_name="CompletePredictions", ptransform=beam.Map(complete)
    )
    return [first, completed, *rest]


def complete(extracts: dict[str, Any]) -> dict[str, Any]:
    """Replace the probabilities of some classes by those of all classes.

    Args:
        extracts: TFMA's extracts of a batch of n predictions.

    Returns:
        The extracts, whose probabilities are float32 [n, C].
    """
    features = extracts[_FEATURES]
    if names.PROBABILITY_CLASSES not in features:
        return extracts
    classes = _rows(features[names.PROBABILITY_CLASSES])
    counts = [int(row[0]) for row in _rows(features[names.CLASS_COUNT])]
    completed = {}
    for kind in features.keys() & {names.PROBABILITIES, names.BASELINE_PROBABILITIES}:
        rows = zip(_rows(features[kind]), classes, counts, strict=True)
        completed[kind] = np.stack([prediction.complete(*row) for row in rows])
    return {**extracts, _FEATURES: {**features, **completed}}


def _rows(values: Any) -> list[np.ndarray]:
    """Return the values of each prediction, whether or not all of them have equally many."""
    if isinstance(values, np.ndarray):
        return list(values)
    rows, _ = np.asarray(values.indices).T
    ends = np.searchsorted(rows, np.arange(1, values.dense_shape[0]))
    return np.split(np.asarray(values.values), ends)
