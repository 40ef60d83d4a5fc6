"""TFMA's result of the stored answers, for everybody who reads its artifact; it decides nothing.

TFMA is imported where it is used, because it is asked for by a setting. Its metrics are those of
the answers that the blessing is decided by, by split and class.
"""

from __future__ import annotations

from typing import Any

import apache_beam as beam

from imgpipe.components.common.answer_table import PREDICTED_SPLITS
from imgpipe.components.common.storage import records
from imgpipe.models import names

_FEW_CLASSES = 100  # most classes for which TFMA computes metrics by class
_METRICS = ("ExampleCount", "SparseCategoricalAccuracy", "SparseCategoricalCrossentropy")


def eval_config(classes: int, baseline: bool) -> dict[str, Any]:
    """Return TFMA's EvalConfig: count, accuracy and loss by split and, for few classes, by class.

    The report computes all other metrics from the predictions. Labels are the integer
    `label_index`, because string labels make SparseCategoricalAccuracy fail. The model is of TFMA's
    type "materialized_prediction": its answers are a feature of the Examples. `baseline` says
    whether they hold the answers of a baseline, too.
    """
    from tensorflow_model_analysis import constants

    model = {
        "modelType": constants.MATERIALIZED_PREDICTION,
        "labelKey": names.LABEL_INDEX,
        "predictionKey": names.PROBABILITIES,
    }
    models = [model]
    if baseline:
        stored = {"predictionKey": names.BASELINE_PROBABILITIES, "isBaseline": True}
        models = [
            {**model, "name": constants.CANDIDATE_KEY},
            {**model, **stored, "name": constants.BASELINE_KEY},
        ]
    slices: list[dict[str, Any]] = [{}, {"featureKeys": [names.SPLIT]}]
    if classes <= _FEW_CLASSES:
        slices.append({"featureKeys": [names.SPLIT, names.LABEL]})
    return {
        "modelSpecs": models,
        "slicingSpecs": slices,
        "metricsSpecs": [{"metrics": [{"className": name} for name in _METRICS]}],
    }


def write(
    pipeline: beam.Pipeline, predictions: str, result: str, classes: int, baseline: bool
) -> None:
    """Run a Beam pipeline that writes TFMA's result.

    Args:
        pipeline: An empty pipeline.
        predictions: URI of the Examples with the answers.
        result: URI of the ModelEvaluation.
        classes: Number of classes.
        baseline: Whether the Examples hold the answers of a baseline, too.
    """
    import tensorflow_model_analysis as tfma
    from google.protobuf import json_format
    from tfx_bsl.public.tfxio import TFExampleRecord

    config = json_format.ParseDict(eval_config(classes, baseline), tfma.EvalConfig())
    files = [file for split in PREDICTED_SPLITS for file in records.shard_files(predictions, split)]
    source = TFExampleRecord(files, raw_record_column_name=tfma.ARROW_INPUT_COLUMN)
    with pipeline as root:
        _ = (
            root
            | "Answers" >> source.BeamSource()
            | tfma.ExtractEvaluateAndWriteResults(eval_config=config, output_path=result)
        )
