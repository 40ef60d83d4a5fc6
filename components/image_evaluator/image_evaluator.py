"""ImageEvaluator: asks the served signature, and decides about the model.

It answers the images of validation and test once, for everybody who reads answers; see
`prediction`. The blessing follows from `rules.decide`, which reads the table of answers. TFMA
computes its metrics from the same answers, where a setting asks for them.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import (
    Examples,
    InfraBlessing,
    Model,
    ModelBlessing,
    ModelEvaluation,
    ModelRun,
)
from tfx.utils import path_utils

from imgpipe.components.common import artifacts
from imgpipe.components.common.answer_table import AnswerTable
from imgpipe.components.common.artifacts import Quarantine, mark_examples
from imgpipe.components.common.images import kept
from imgpipe.components.common.storage import last_version, manifest, records
from imgpipe.components.image_evaluator import new_images, prediction, rules, tfma_result
from imgpipe.components.image_evaluator.compared_version import ComparedVersion
from imgpipe.components.image_evaluator.decision import (
    BASELINE_FILE,
    DECISION_FILE,
    BaselineState,
    Decision,
    UnlikeImages,
)
from imgpipe.components.image_evaluator.evidence import Evidence
from imgpipe.components.image_evaluator.prediction import AskedModel, Predict
from imgpipe.models import names
from imgpipe.models.head.answers import OutOfFold
from imgpipe.models.head.learned import Learned
from imgpipe.models.settings.given import Given
from imgpipe.models.training.history import History

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluatorUris:
    """URIs of the artifacts that ImageEvaluator reads, and of the predictions that it writes.

    Those that a pipeline need not have are "" without one.
    """

    examples: str
    model: str
    quarantine: str
    predictions: str
    model_run: str = ""
    infra_blessing: str = ""
    bank: str = ""

    @property
    def exported(self) -> str:
        """Folder of the exported model."""
        return str(path_utils.serving_model_path(self.model))

    @property
    def serves(self) -> bool:
        """Whether ServingValidator blessed the export, or was not asked."""
        return not self.infra_blessing or artifacts.is_blessed(
            self.infra_blessing, artifacts.INFRA_BLESSED
        )


@component(use_beam=True)
def ImageEvaluator(
    examples: InputArtifact[Examples],
    model: InputArtifact[Model],
    quarantine: InputArtifact[Quarantine],
    predictions: OutputArtifact[Examples],
    evaluation: OutputArtifact[ModelEvaluation],
    blessing: OutputArtifact[ModelBlessing],
    settings: Parameter[str],
    model_run: InputArtifact[ModelRun] = None,
    infra_blessing: InputArtifact[InfraBlessing] = None,
    bank: InputArtifact[Examples] = None,
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Predict the images of validation and test, and decide about the model.

    A model that ServingValidator refused is asked all the same, so that the report can say how
    accurate it is. If it does not answer, there are no predictions.

    Args:
        examples: Kept images, Examples of ImageFilter.
        model: Exported model of ImageTrainer.
        quarantine: Quarantine of ImageFilter, whose table has all images.
        predictions: Output: tf.Examples with content hash, split, label and probabilities, and
            those of the last version.
        evaluation: Output: TFMA's result; empty unless `evaluate.tfma` is set.
        blessing: Output: BLESSED or NOT_BLESSED, `decision.json`, and `baseline.json` with the
            version that the model was compared with.
        settings: What it reads; see `imgpipe.models.settings.given`.
        model_run: ModelRun of ImageTrainer, whose folds decide on the threshold if it has any.
        infra_blessing: Blessing of ServingValidator; without it the model counts as served.
        bank: Features of FeatureBank, by which new images are compared with the old ones of their
            class; without it they are not.
        beam_pipeline: Beam pipeline, supplied by TFX.

    Raises:
        ResourceError: The last version has been removed or damaged since the run began.
    """
    given = Given.read(settings)
    mark_examples(predictions)
    inputs = (examples, model, quarantine, predictions, model_run, infra_blessing, bank)
    uris = EvaluatorUris(*map(_uri, inputs))
    decision, state = evaluate(uris, given, beam_pipeline)
    if given.settings.evaluate.tfma:
        # Another pipeline, because what was added to the first one would run again.
        analysis = beam.Pipeline(options=beam_pipeline.options)
        tfma_result.write(
            analysis,
            predictions.uri,
            evaluation.uri,
            len(given.facts.vocabulary),
            state["compared"],
        )
    records.write_json(f"{blessing.uri}/{BASELINE_FILE}", state)
    _bless(blessing, decision, model)


def evaluate(
    uris: EvaluatorUris, given: Given, pipeline: beam.Pipeline
) -> tuple[Decision, BaselineState]:
    """Write the predictions of a model, and decide about it.

    Args:
        uris: URIs of the artifacts.
        given: Requirements on the model, and the last version.
        pipeline: An empty Beam pipeline.

    Returns:
        The decision, and the version that the model was compared with.

    Raises:
        ResourceError: The last version has been removed or damaged since the run began.
    """
    versions = given.settings.places.versions
    number, digest = given.facts.baseline_version, given.facts.baseline_digest
    with last_version.in_use(versions, number, digest) as version:
        compared = ComparedVersion.of(version, given.facts)
        _predict(uris, given, compared, pipeline)
        return rules.decide(evidence(uris, given, compared)), compared.state


def _uri(artifact: Any) -> str:
    return "" if artifact is None else str(artifact.uri)


def _predict(
    uris: EvaluatorUris,
    given: Given,
    compared: ComparedVersion,
    pipeline: beam.Pipeline,
) -> None:
    """Write the predictions, and keep them for later runs."""
    code = given.facts.code
    kept = prediction.kept_answers(str(given.settings.places.answers), uris.exported, code)
    model = AskedModel(uris.exported, kept)
    baseline = None
    if compared.folder:
        baseline = prediction.version_model(compared.folder, model, code)
    predict_shard = Predict(uris.predictions, model, baseline, compared.state["columns"])
    try:
        prediction.predict(pipeline, uris.examples, predict_shard, uris.predictions)
    except Exception:
        if uris.serves:
            raise
        _log.exception("the model, which ServingValidator refused, does not answer")
        prediction.predict_nothing(uris.predictions)
        return
    if kept:
        prediction.keep(uris.predictions, kept)


def evidence(uris: EvaluatorUris, given: Given, compared: ComparedVersion) -> Evidence:
    """Collect what is known about the model, from the artifacts and the last version."""
    vocabulary = list(given.facts.vocabulary)
    history: History | None = None
    if uris.model_run:
        history = records.read_json(f"{uris.model_run}/{names.HISTORY_FILE}")
    folds = history["cross_validation"] if history is not None else None
    out_of_fold = OutOfFold.read(uris.exported)
    learned = None if folds is None else out_of_fold
    images = kept(uris.quarantine)
    answers = AnswerTable.read(uris.predictions, vocabulary, images, learned)
    _require_unseen(uris.exported, answers, out_of_fold)
    pair = None
    if compared.state["compared"]:
        shared = np.array(compared.state["columns"]) >= 0
        now, before = AnswerTable.read_pairs(uris.predictions, vocabulary, images, shared)
        split_of_rows = [
            compared.split_of.get(manifest.short_hash(image.decode()), "")
            for image in now.hashes.tolist()
        ]
        new = np.array(split_of_rows, np.str_) != names.TRAIN
        if learned is None:  # otherwise no fold has learned from the families of its images
            new &= ~now.seen_family
        pair = (now.select(new), before.select(new))
    unlike: Sequence[UnlikeImages] = ()
    if uris.bank:
        unlike = new_images.unlike_images(uris.bank, images, vocabulary, compared.split_of)
    return Evidence(
        settings=given.settings.evaluate,
        answers=answers,
        compared=pair,
        version=compared.state["version"],
        not_compared=compared.state["why"],
        folds=folds,
        unserved=_unserved(uris),
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


def _unserved(uris: EvaluatorUris) -> str:
    """Return why ServingValidator did not bless the export; "" if it did, or was not asked."""
    if uris.serves:
        return ""
    checks = records.read_json(f"{uris.infra_blessing}/{artifacts.VALIDATION}")
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
