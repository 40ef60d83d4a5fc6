"""ImageEvaluator: TFMA on the signature that is served, blessing on `validation` alone.

TFX's executor does the work. Ours only makes up for two things it lacks: an empty baseline (a
plain component always emits an artifact; the stock code would try to load it) and a bound on the
images in memory.
"""

import json
from typing import Any

import tensorflow_model_analysis as tfma
from tfx.components.evaluator import executor as stock
from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.types import artifact_utils
from tfx.types import standard_component_specs as specs
from tfx.types.channel import Channel
from tfx.types.standard_artifacts import ModelBlessing, ModelEvaluation
from tfx.types.standard_component_specs import EvaluatorSpec
from tfx.utils import json_utils, proto_utils
from tfx_bsl.coders import batch_util

from imgpipe.components.baseline.component import is_empty
from imgpipe.components.blessings import SLACK
from imgpipe.models import feature_names as names

ACCURACY = "sparse_categorical_accuracy"
LOSS = "sparse_categorical_crossentropy"
IMAGES_A_BATCH = 32
_FEW_CLASSES = 100  # up to which TFMA computes what grows with the square of the classes


def eval_config(threshold: float, max_drop: float, classes: int) -> dict[str, Any]:
    """TFMA's EvalConfig as JSON: metrics by split and class, thresholds on validation.

    Confusion matrix and calibration of every class grow with the square of the number of classes.
    Above 100 classes TFMA computes the figures of the gate alone; the report has the others from
    the predictions, however many classes there are.

    Labels are the integer `label_index`; string labels make SparseCategoricalAccuracy fail. The
    signature is fed `image_bytes` because its input carries that feature's name.

    Args:
      threshold: validation accuracy the model must reach.
      max_drop: validation accuracy it may lose against the baseline.
      classes: number of classes.
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


class Executor(stock.Executor):
    """TFX's Evaluator executor, with a bounded batch and without an empty baseline."""

    def Do(self, input_dict: Any, output_dict: Any, exec_properties: Any) -> None:
        """Evaluate and bless; see TFX's executor for the dictionaries."""
        inputs = dict(input_dict)
        baseline = inputs.get(specs.BASELINE_MODEL_KEY)
        if baseline and is_empty(artifact_utils.get_single_uri(baseline)):
            inputs.pop(specs.BASELINE_MODEL_KEY)
        # Beam grows a batch to 1,000 images by default: 0.6 GB of pixels and several times that
        # of activations. The cap is read while the Beam graph is built, in this process.
        cap = batch_util._BATCH_SIZE_CAP
        batch_util._BATCH_SIZE_CAP = IMAGES_A_BATCH
        try:
            super().Do(inputs, output_dict, exec_properties)
        finally:
            batch_util._BATCH_SIZE_CAP = cap


class ImageEvaluator(BaseBeamComponent):
    """Evaluates the export on validation and test; blesses on validation."""

    SPEC_CLASS = EvaluatorSpec
    EXECUTOR_SPEC = BeamExecutorSpec(Executor)

    def __init__(
        self,
        examples: Channel,
        model: Channel,
        baseline_model: Channel,
        config: dict[str, Any],
        splits: list[str],
    ) -> None:
        """Wire the component.

        Args:
          examples: kept images.
          model: the Trainer's export.
          baseline_model: Baseline's model, possibly empty.
          config: EvalConfig as JSON, of `eval_config`.
          splits: splits to evaluate; validation must be among them.
        """
        super().__init__(
            spec=EvaluatorSpec(
                examples=examples,
                model=model,
                baseline_model=baseline_model,
                eval_config=proto_utils.json_to_proto(json.dumps(config), tfma.EvalConfig()),
                example_splits=json_utils.dumps(splits),
                fairness_indicator_thresholds=json_utils.dumps(None),
                evaluation=Channel(type=ModelEvaluation),
                blessing=Channel(type=ModelBlessing),
            )
        )
