"""ImageEvaluator: runs TFMA on the served signature and blesses on `validation` alone.

TFX's executor does the work. The subclass here adds three things: it ignores an empty baseline (a
plain component always emits an artifact, which TFX's executor would try to load), it limits the
number of images in memory, and it demands no accuracy where CrossValidator has decided.
"""

from typing import Any

import tensorflow_model_analysis as tfma
from google.protobuf import json_format
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
from imgpipe.models import feature_names as names

ACCURACY = "sparse_categorical_accuracy"
LOSS = "sparse_categorical_crossentropy"
CROSS_VALIDATION = "cross_validation"
IMAGES_A_BATCH = 32
_FEW_CLASSES = 100  # most classes for which TFMA computes metrics of quadratic size


def eval_config(threshold: float, max_drop: float, classes: int) -> dict[str, Any]:
    """Create TFMA's EvalConfig, with metrics by split and class and thresholds on validation.

    The confusion matrix and the calibration of every class grow with the square of the number of
    classes. Above 100 classes TFMA computes only the metrics of the gate; the report always
    computes the other metrics from the predictions.

    Labels are the integer `label_index`, because string labels make SparseCategoricalAccuracy
    fail. The signature receives `image_bytes` because its input has the name of that feature.

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
    calibration = {
        "metrics": [{"className": "CalibrationPlot", "config": '"num_buckets": 15'}],
        "binarize": {"topKList": {"values": [1]}},
    }
    few = classes <= _FEW_CLASSES
    return {
        "modelSpecs": [
            {
                "signatureName": "serving_default",
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


class ImageEvaluatorSpec(EvaluatorSpec):
    """TFX's EvaluatorSpec with a channel for the blessing of CrossValidator."""

    INPUTS = {  # noqa: RUF012 - TFX reads a plain dict
        **EvaluatorSpec.INPUTS,
        CROSS_VALIDATION: ChannelParameter(type=ModelBlessing, optional=True),
    }


class Executor(stock.Executor):
    """TFX's Evaluator executor with a limited batch size, which ignores an empty baseline."""

    def Do(self, input_dict: Any, output_dict: Any, exec_properties: Any) -> None:
        """Evaluate and write the blessing; see TFX's executor for the arguments."""
        inputs = dict(input_dict)
        baseline = inputs.get(specs.BASELINE_MODEL_KEY)
        if baseline and is_empty(artifact_utils.get_single_uri(baseline)):
            inputs.pop(specs.BASELINE_MODEL_KEY)
        judged = inputs.pop(CROSS_VALIDATION, None)
        if judged and folds_decide(artifact_utils.get_single_uri(judged)):
            config = without_threshold(exec_properties[specs.EVAL_CONFIG_KEY])
            exec_properties = {**exec_properties, specs.EVAL_CONFIG_KEY: config}
        # By default Beam grows a batch to 1,000 images, which are 0.6 GB of pixels and several
        # times that of activations. The cap is read in this process, when the Beam graph is built.
        cap = batch_util._BATCH_SIZE_CAP
        batch_util._BATCH_SIZE_CAP = IMAGES_A_BATCH
        try:
            super().Do(inputs, output_dict, exec_properties)
        finally:
            batch_util._BATCH_SIZE_CAP = cap


class ImageEvaluator(BaseBeamComponent):
    """Evaluates the exported model on validation and test, and blesses it on validation."""

    SPEC_CLASS = ImageEvaluatorSpec
    EXECUTOR_SPEC = BeamExecutorSpec(Executor)

    def __init__(
        self,
        examples: Channel,
        model: Channel,
        baseline_model: Channel,
        config: str | RuntimeParameter,
        splits: list[str],
        cross_validation: Channel | None = None,
    ) -> None:
        """Create the component.

        Args:
          examples: Kept images, Examples of ImageFilter.
          model: Exported model of ImageTrainer.
          baseline_model: Model of Baseline, which may be empty.
          config: JSON of the EvalConfig that `eval_config` returns.
          splits: Splits to evaluate, which must include validation.
          cross_validation: Blessing of CrossValidator. Where its folds decide, the threshold does
            not apply to validation.
        """
        super().__init__(
            spec=ImageEvaluatorSpec(
                examples=examples,
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
