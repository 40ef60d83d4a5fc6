"""ImageEvaluator: TFMA on what the served signature answered; it blesses on `validation` alone.

The answers are those that Predictor has stored, so that no model is loaded or run here. TFX's
executor does the work. The subclass here adds three things: it compares with the baseline only if
there is one (a plain component always emits an artifact, which TFX's executor would take for a
model), it limits the number of predictions in a batch, and it demands no accuracy where
CrossValidator has decided.
"""

from typing import Any

import tensorflow_model_analysis as tfma
from google.protobuf import json_format
from tensorflow_model_analysis import constants
from tfx.components.evaluator import executor as stock
from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.orchestration.data_types import RuntimeParameter
from tfx.types import artifact_utils
from tfx.types import standard_component_specs as specs
from tfx.types.channel import Channel
from tfx.types.component_spec import ChannelParameter
from tfx.types.standard_artifacts import ModelBlessing, ModelEvaluation
from tfx.types.standard_component_specs import EvaluatorSpec
from tfx.utils import json_utils
from tfx_bsl.coders import batch_util

from imgpipe.components.baseline.component import is_empty
from imgpipe.components.blessings import SLACK
from imgpipe.components.cross_validator.outcome import folds_decide
from imgpipe.components.image_evaluator.stored_predictions import EXTRACTORS
from imgpipe.models import feature_names as names

ACCURACY = "sparse_categorical_accuracy"
LOSS = "sparse_categorical_crossentropy"
CROSS_VALIDATION = "cross_validation"
IMAGES_A_BATCH = 256
_FEW_CLASSES = 100  # most classes for which TFMA computes metrics of quadratic size


def eval_config(threshold: float, max_drop: float, classes: int) -> dict[str, Any]:
    """Create TFMA's EvalConfig, with metrics by split and class and thresholds on validation.

    The confusion matrix and the calibration of every class grow with the square of the number of
    classes. Above 100 classes TFMA computes only the metrics of the gate; the report always
    computes the other metrics from the predictions.

    Labels are the integer `label_index`, because string labels make SparseCategoricalAccuracy
    fail. The model is of TFMA's type "materialized_prediction": its answers are a feature of the
    Examples.

    Args:
        threshold: Validation accuracy that the model must reach, 0 to 1.
        max_drop: Validation accuracy that the model may lose against the baseline, 0 to 1.
        classes: Number of classes.

    Returns:
        The EvalConfig as a JSON-ready dictionary.
    """
    on_validation = {"featureValues": {names.SPLIT: names.VALIDATION}}
    gate = {
        "slicingSpecs": [on_validation],
        "threshold": {
            "valueThreshold": {"lowerBound": threshold - SLACK},
            "changeThreshold": {"direction": "HIGHER_IS_BETTER", "absolute": -max_drop - SLACK},
        },
    }
    # TFMA has no expected calibration error, but its plot for the most probable class holds the
    # mean probability and the accuracy of each bin.
    calibration = {
        "metrics": [{"className": "CalibrationPlot", "config": '"num_buckets": 15'}],
        "binarize": {"topKList": {"values": [1]}},
    }
    few = classes <= _FEW_CLASSES
    return {
        "modelSpecs": [
            {
                "modelType": constants.MATERIALIZED_PREDICTION,
                "labelKey": names.LABEL_INDEX,
                "predictionKey": names.PROBABILITIES,
            }
        ],
        "slicingSpecs": [
            {},
            {"featureKeys": [names.SPLIT]},
            *([{"featureKeys": [names.SPLIT, names.LABEL]}] if few else []),
        ],
        "metricsSpecs": [
            {
                "metrics": [
                    {"className": "ExampleCount"},
                    {"className": "SparseCategoricalAccuracy", "perSliceThresholds": [gate]},
                    {"className": "SparseCategoricalCrossentropy"},
                    *([{"className": "MultiClassConfusionMatrixPlot"}] if few else []),
                ]
            },
            *([calibration] if few else []),
        ],
    }


def without_threshold(config: str) -> str:
    """Return the JSON of an EvalConfig that demands no accuracy, but may still refuse a drop."""
    parsed = json_format.Parse(config, tfma.EvalConfig())
    for group in parsed.metrics_specs:
        for metric in group.metrics:
            for gate in metric.per_slice_thresholds:
                gate.threshold.value_threshold.lower_bound.value = -SLACK
    return str(json_format.MessageToJson(parsed, preserving_proto_field_name=True))


def with_baseline(config: str) -> str:
    """Return the JSON of an EvalConfig that also reads the answers of the baseline.

    TFX would add a baseline whose answers are the feature that holds those of the candidate.
    """
    parsed = json_format.Parse(config, tfma.EvalConfig())
    (candidate,) = parsed.model_specs
    baseline = parsed.model_specs.add()
    baseline.CopyFrom(candidate)
    candidate.name, baseline.name = tfma.CANDIDATE_KEY, tfma.BASELINE_KEY
    baseline.is_baseline = True
    baseline.prediction_key = names.BASELINE_PROBABILITIES
    return str(json_format.MessageToJson(parsed, preserving_proto_field_name=True))


class ImageEvaluatorSpec(EvaluatorSpec):
    """TFX's EvaluatorSpec with a channel for the blessing of CrossValidator."""

    INPUTS = {  # noqa: RUF012 - TFX reads a plain dict
        **EvaluatorSpec.INPUTS,
        CROSS_VALIDATION: ChannelParameter(type=ModelBlessing, optional=True),
    }


class Executor(stock.Executor):
    """TFX's Evaluator executor for stored predictions, with a limited batch size."""

    def Do(self, input_dict: Any, output_dict: Any, exec_properties: Any) -> None:
        """Evaluate and write the blessing; see TFX's executor for the arguments."""
        inputs = dict(input_dict)
        config = exec_properties[specs.EVAL_CONFIG_KEY]
        judged = inputs.pop(CROSS_VALIDATION, None)
        if judged and folds_decide(artifact_utils.get_single_uri(judged)):
            config = without_threshold(config)
        baseline = inputs.get(specs.BASELINE_MODEL_KEY)
        if baseline and is_empty(artifact_utils.get_single_uri(baseline)):
            inputs.pop(specs.BASELINE_MODEL_KEY)
        elif baseline:
            config = with_baseline(config)
        properties = {
            **exec_properties,
            specs.EVAL_CONFIG_KEY: config,
            "custom_extractors": EXTRACTORS,
        }
        # By default Beam grows a batch to 1,000 predictions, which are 0.4 GB with 50,000 classes
        # and a baseline. The cap is read in this process, when the Beam graph is built.
        cap = batch_util._BATCH_SIZE_CAP
        batch_util._BATCH_SIZE_CAP = IMAGES_A_BATCH
        try:
            super().Do(inputs, output_dict, properties)
        finally:
            batch_util._BATCH_SIZE_CAP = cap


class ImageEvaluator(BaseBeamComponent):
    """Evaluates the predictions of validation and test, and blesses the model on validation."""

    SPEC_CLASS = ImageEvaluatorSpec
    EXECUTOR_SPEC = BeamExecutorSpec(Executor)

    def __init__(
        self,
        predictions: Channel,
        model: Channel,
        baseline_model: Channel,
        config: str | RuntimeParameter,
        splits: list[str],
        cross_validation: Channel | None = None,
    ) -> None:
        """Create the component.

        Args:
            predictions: Predictions of Predictor for the model and for the baseline.
            model: Exported model of ImageTrainer, which the blessing names.
            baseline_model: Model of Baseline, which may be empty.
            config: JSON of the EvalConfig that `eval_config` returns.
            splits: Splits to evaluate, which must include validation.
            cross_validation: Blessing of CrossValidator. Where its folds decide, the threshold does
                not apply to validation.
        """
        super().__init__(
            spec=ImageEvaluatorSpec(
                examples=predictions,
                model=model,
                baseline_model=baseline_model,
                cross_validation=cross_validation,
                eval_config=config,
                example_splits=json_utils.dumps(splits),
                fairness_indicator_thresholds=json_utils.dumps(None),
                evaluation=Channel(type=ModelEvaluation),
                blessing=Channel(type=ModelBlessing),
            )
        )
