"""ImageEvaluator: TFMA on what the served signature answered, and the decision about the model.

The answers are those that Predictor has stored, so that no model is loaded or run here. TFX's
executor computes the metrics, by split and class, for everybody who reads TFMA's artifact. The
subclass here gives it the configuration, and compares with the baseline only if there is one (a
plain component always emits an artifact, which TFX's executor would take for a model). The blessing
follows from `rules.decide`, which reads the table of answers itself.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tensorflow_model_analysis import constants
from tfx.components.evaluator import executor as stock
from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.orchestration.data_types import RuntimeParameter
from tfx.types import artifact_utils
from tfx.types import standard_component_specs as specs
from tfx.types.channel import Channel
from tfx.types.component_spec import ChannelParameter, ExecutionParameter
from tfx.types.standard_artifacts import (
    Examples,
    InfraBlessing,
    ModelBlessing,
    ModelEvaluation,
    ModelRun,
)
from tfx.types.standard_component_specs import EvaluatorSpec
from tfx.utils import json_utils, path_utils

from imgpipe.components.common import artifacts
from imgpipe.components.common.answer_table import PREDICTED_SPLITS, AnswerTable
from imgpipe.components.common.row_files import kept_images
from imgpipe.components.common.storage import manifest, records
from imgpipe.components.image_evaluator import new_images, rules
from imgpipe.components.image_evaluator.baseline import is_empty
from imgpipe.components.image_evaluator.decision import DECISION_FILE, Decision, UnlikeImages
from imgpipe.components.image_evaluator.evidence import Evidence
from imgpipe.components.image_evaluator.settings import BASELINE_FILE
from imgpipe.models import names
from imgpipe.models.head.answers import OutOfFold
from imgpipe.models.head.learned import Learned
from imgpipe.models.settings.given import Given
from imgpipe.models.training.history import History

MODEL_RUN = "model_run"
INFRA_BLESSING = "infra_blessing"
BANK = "bank"
QUARANTINE = "quarantine"
_FEW_CLASSES = 100  # most classes for which TFMA computes metrics by class


def eval_config(classes: int, baseline: bool) -> dict[str, Any]:
    """Create TFMA's EvalConfig: count, accuracy and loss by split and, for few classes, by class.

    The report computes all other metrics from the predictions. Labels are the integer
    `label_index`, because string labels make SparseCategoricalAccuracy fail. The model is of TFMA's
    type "materialized_prediction": its answers are a feature of the Examples. `baseline` says
    whether they hold the answers of a baseline, too.
    """
    model = {
        "modelType": constants.MATERIALIZED_PREDICTION,
        "labelKey": names.LABEL_INDEX,
        "predictionKey": names.PROBABILITIES,
    }
    models = [model]
    if baseline:  # TFX would add one whose answers are those of the candidate
        stored = {"predictionKey": names.BASELINE_PROBABILITIES, "isBaseline": True}
        models = [
            {**model, "name": constants.CANDIDATE_KEY},
            {**model, **stored, "name": constants.BASELINE_KEY},
        ]
    slices: list[dict[str, Any]] = [{}, {"featureKeys": [names.SPLIT]}]
    if classes <= _FEW_CLASSES:
        slices.append({"featureKeys": [names.SPLIT, names.LABEL]})
    metrics = ("ExampleCount", "SparseCategoricalAccuracy", "SparseCategoricalCrossentropy")
    return {
        "modelSpecs": models,
        "slicingSpecs": slices,
        "metricsSpecs": [{"metrics": [{"className": name} for name in metrics]}],
    }


class ImageEvaluatorSpec(EvaluatorSpec):
    """TFX's EvaluatorSpec with what the decision needs besides the predictions."""

    PARAMETERS = {  # noqa: RUF012 - TFX reads a plain dict
        **EvaluatorSpec.PARAMETERS,
        "settings": ExecutionParameter(type=str),
    }
    INPUTS = {  # noqa: RUF012 - TFX reads a plain dict
        **EvaluatorSpec.INPUTS,
        MODEL_RUN: ChannelParameter(type=ModelRun, optional=True),
        INFRA_BLESSING: ChannelParameter(type=InfraBlessing, optional=True),
        BANK: ChannelParameter(type=Examples, optional=True),
        QUARANTINE: ChannelParameter(type=artifacts.Quarantine),
    }


class ImageEvaluatorExecutor(stock.Executor):
    """TFX's Evaluator executor for stored predictions, which blesses by `rules.decide`."""

    def Do(self, input_dict: Any, output_dict: Any, exec_properties: Any) -> None:
        """Evaluate, decide and write the blessing; see TFX's executor for the arguments."""
        inputs = dict(input_dict)
        properties = dict(exec_properties)
        outputs = {key: value for key, value in output_dict.items() if key != specs.BLESSING_KEY}
        uris = {key: artifact_utils.get_single_uri(value) for key, value in inputs.items() if value}
        given = Given.read(properties.pop("settings"))
        for ours in (MODEL_RUN, INFRA_BLESSING, BANK, QUARANTINE):
            inputs.pop(ours, None)
        compared = specs.BASELINE_MODEL_KEY in uris and not is_empty(uris[specs.BASELINE_MODEL_KEY])
        if not compared:
            inputs.pop(specs.BASELINE_MODEL_KEY, None)
        config = json.dumps(eval_config(len(given.facts.vocabulary), compared))
        properties[specs.EVAL_CONFIG_KEY] = config
        super().Do(inputs, outputs, properties)
        decision = rules.decide(evidence(uris, given))
        blessing = artifact_utils.get_single_instance(output_dict[specs.BLESSING_KEY])
        _bless(blessing, decision, artifact_utils.get_single_instance(input_dict[specs.MODEL_KEY]))


def evidence(uris: dict[str, str], given: Given) -> Evidence:
    """Collect what is known about the model, from the artifacts by the names of the inputs."""
    vocabulary = list(given.facts.vocabulary)
    uri = uris[specs.BASELINE_MODEL_KEY]
    state = records.read_json(f"{uri}/{BASELINE_FILE}")
    split_of = (
        manifest.read_known_images(Path(uri, manifest.KNOWN_IMAGES)) or {}
    )  # of the baseline's images
    history: History | None = None
    if MODEL_RUN in uris:
        history = records.read_json(f"{uris[MODEL_RUN]}/{names.HISTORY_FILE}")
    folds = history["cross_validation"] if history is not None else None
    model = path_utils.serving_model_path(uris[specs.MODEL_KEY])
    out_of_fold = OutOfFold.read(model)
    learned = None if folds is None else out_of_fold
    predictions = uris[specs.EXAMPLES_KEY]
    images = kept_images(uris[QUARANTINE])
    answers = AnswerTable.read(predictions, vocabulary, images, learned)
    _require_unseen(model, answers, out_of_fold)
    compared = None
    if state["compared"]:
        shared = np.array(state["columns"]) >= 0
        now, before = AnswerTable.read_pairs(predictions, vocabulary, images, shared)
        split_of_rows = [
            split_of.get(manifest.short_hash(image.decode()), "") for image in now.hashes.tolist()
        ]
        new = np.array(split_of_rows, np.str_) != names.TRAIN
        if learned is None:  # otherwise no fold has learned from the families of its images
            new &= ~now.seen_family
        compared = (now.select(new), before.select(new))
    unlike: Sequence[UnlikeImages] = ()
    if BANK in uris:
        unlike = new_images.unlike_images(uris[BANK], images, vocabulary, split_of)
    return Evidence(
        settings=given.settings.evaluate,
        answers=answers,
        compared=compared,
        version=state["version"],
        not_compared=state["why"],
        folds=folds,
        unserved=_unserved(uris.get(INFRA_BLESSING)),
        unlike=unlike,
        accepted=bool(given.facts.accept_changes),
    )


def _require_unseen(model: str, answers: AnswerTable, out_of_fold: OutOfFold | None) -> None:
    """End the run where a model has learned from images by which it is judged: that is a defect.

    For those out of fold, networks that have not learned from them have answered.
    """
    learned = Learned.read(model)
    by_model = answers.deciding()
    if out_of_fold is not None:
        by_model = by_model.select(~np.isin(by_model.hashes, out_of_fold.hashes))
    if learned is not None:
        learned.require_unseen(by_model.hashes, by_model.families, "the served model")


def _unserved(uri: str | None) -> str:
    """Return why ServingValidator did not bless the export; "" if it did, or was not asked."""
    if not uri or artifacts.is_blessed(uri, artifacts.INFRA_BLESSED):
        return ""
    checks = records.read_json(f"{uri}/{artifacts.VALIDATION}")
    broken = next(check for check in checks if not check["passed"])
    return f"the serving check {broken['name']!r} failed: {broken['detail']}"


def _bless(blessing: Any, decision: Decision, model: Any) -> None:
    """Write the decision, and what TFX's own Evaluator writes for the components after it."""
    records.write_json(f"{blessing.uri}/{DECISION_FILE}", decision)
    blessed = decision["blessed"]
    artifacts.mark(blessing.uri, artifacts.BLESSED if blessed else artifacts.NOT_BLESSED)
    blessing.set_int_custom_property("blessed", int(blessed))
    blessing.set_string_custom_property("current_model", model.uri)
    blessing.set_int_custom_property("current_model_id", model.id)


class ImageEvaluator(BaseBeamComponent):
    """Evaluates the predictions of validation and test, and decides about the model."""

    SPEC_CLASS = ImageEvaluatorSpec
    EXECUTOR_SPEC = BeamExecutorSpec(ImageEvaluatorExecutor)

    def __init__(
        self,
        predictions: Channel,
        model: Channel,
        baseline_model: Channel,
        quarantine: Channel,
        settings: str | RuntimeParameter,
        model_run: Channel | None = None,
        infra_blessing: Channel | None = None,
        bank: Channel | None = None,
    ) -> None:
        """Create the component.

        Args:
            predictions: Predictions of Predictor for the model and for the baseline.
            model: Exported model of ImageTrainer, which the blessing names.
            baseline_model: Model of Baseline, which may be empty.
            quarantine: Quarantine of ImageFilter, whose table has all images.
            settings: What it reads; see `imgpipe.models.settings.given`.
            model_run: ModelRun of ImageTrainer, whose folds decide on the threshold if it has any.
            infra_blessing: Blessing of ServingValidator; without it the model counts as served.
            bank: Features of FeatureBank, by which new images are compared with the old ones of
                their class; without it they are not.
        """
        super().__init__(
            spec=ImageEvaluatorSpec(
                examples=predictions,
                model=model,
                baseline_model=baseline_model,
                quarantine=quarantine,
                model_run=model_run,
                infra_blessing=infra_blessing,
                bank=bank,
                settings=settings,
                example_splits=json_utils.dumps([*PREDICTED_SPLITS]),
                fairness_indicator_thresholds=json_utils.dumps(None),
                evaluation=Channel(type=ModelEvaluation),
                blessing=Channel(type=ModelBlessing),
            )
        )
