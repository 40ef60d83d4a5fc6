"""The facts of a run, read from its artifacts.

Any artifact may be missing. A part from a new artifact needs a field of `Facts` and a row in
`REPORTED`, which graph and component share.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from imgpipe.components.common import artifacts
from imgpipe.components.common.answer_table import AnswerTable
from imgpipe.components.common.storage import records
from imgpipe.components.data_gate.settings import GATE_FILE
from imgpipe.components.image_evaluator.decision import DECISION_FILE, FOLDS
from imgpipe.components.image_evaluator.settings import BASELINE_FILE
from imgpipe.components.image_filter import image_table, quarantine
from imgpipe.components.image_filter.image_table import ImageTable
from imgpipe.components.model_pusher.settings import PUSH_FILE
from imgpipe.components.run_record.doubtful_labels import ComparedLabels, compared_labels
from imgpipe.components.run_record.facts import Facts, ShownSettings, empty, folds_of
from imgpipe.components.run_record.image_answers import image_answers
from imgpipe.components.run_record.metrics import (
    AnsweredBy,
    deciding_answers,
    metrics,
    sample,
    slices,
)
from imgpipe.components.run_record.shown_images import condensed, distances, galleries, image_map
from imgpipe.models import names
from imgpipe.models.features.bank import BANK_FILE, BankRows, read_rows
from imgpipe.models.head.answers import OutOfFold
from imgpipe.models.machine.process import one_blas_thread
from imgpipe.models.names import HISTORY_FILE


@dataclass(frozen=True)
class ReportedArtifact:
    """An artifact that the report reads.

    Attributes:
        component: Id of the component that writes the artifact.
        output: Key of the component's output.
        type: Name of the artifact type, one of TFX's standard artifacts or of
            `components/common/artifacts.py`.
        file: JSON file in the artifact that is part of the facts as it is; "" if there is none.
        fact: Name of the file's content in the facts; "" for the name of the artifact.
    """

    component: str
    output: str
    type: str
    file: str = ""
    fact: str = ""


#: Artifacts by the name that `collect` uses for them.
REPORTED = {
    "quarantine": ReportedArtifact(
        "ImageFilter", "quarantine", "Quarantine", quarantine.SUMMARY, "data"
    ),
    "data_blessing": ReportedArtifact(
        "DataGate", "blessing", "DataBlessing", GATE_FILE, "data_gate"
    ),
    "bank": ReportedArtifact("FeatureBank", "features", "Examples", BANK_FILE),
    "model_run": ReportedArtifact(
        "ImageTrainer", "model_run", "ModelRun", HISTORY_FILE, "training"
    ),
    "model": ReportedArtifact("ImageTrainer", "model", "Model"),
    "baseline": ReportedArtifact("Baseline", "model", "Model", BASELINE_FILE),
    "model_blessing": ReportedArtifact(
        "ImageEvaluator", "blessing", "ModelBlessing", DECISION_FILE, "gate"
    ),
    "predictions": ReportedArtifact("Predictor", "predictions", "Examples"),
    "infra_blessing": ReportedArtifact(
        "ServingValidator", "blessing", "InfraBlessing", artifacts.VALIDATION, "serving"
    ),
    "pushed_model": ReportedArtifact(
        "ModelPusher", "pushed_model", "PushedModel", PUSH_FILE, "push"
    ),
    "examples": ReportedArtifact("ImageFilter", "examples", "Examples"),
}


def collect(uris: Mapping[str, str], settings: ShownSettings) -> Facts:
    """Collect the facts of a run; they can be written as JSON.

    Args:
        uris: Artifact URIs by the names of `REPORTED`.
        settings: What `pipeline.definition.plan.report_settings` returns.
    """
    facts = empty(settings)
    for name, row in REPORTED.items():
        if row.file:
            facts[row.fact or name] = _json(uris, name, row.file)  # type: ignore[literal-required]
    images = None
    if facts["data"] is not None:
        images = image_table.read_found(uris["quarantine"])
        facts["rejected"] = images.rejected
        groups = images.near_groups()
        facts["near"] = None if groups is None else condensed(groups, images.radius)
    facts["quarantine"] = uris.get("quarantine", "")
    answers = _answers(facts, uris)
    _add_metrics(facts, answers)
    if facts["bank"] is not None and facts["bank"]["dim"]:
        bank = read_rows(uris["bank"], names.SPLITS, len(settings["vocabulary"]), 0)
        vocabulary = settings["vocabulary"]
        compared = _compared_labels(facts, bank, answers, images)
        if compared is not None:
            facts["suspects"] = compared.ranking(uris["bank"], vocabulary)
        far = distances(bank.first_block(), len(vocabulary))
        facts["answers"] = image_answers(bank.hashes, far, compared)
        # The map takes as long as the rest. The limit of one BLAS thread is set here too, because
        # both threads enter and leave it.
        with one_blas_thread(), ThreadPoolExecutor(1) as threads:
            placed = threads.submit(image_map, bank, sample(answers.deciding()))
            facts["galleries"] = galleries(bank, uris["bank"], vocabulary, far.own)
            facts["map"] = placed.result()
    training = facts["training"]
    if training is not None:
        # A search may choose another size.
        facts["settings"] = {**settings, "image_size": training["image_size"]}
    return facts


def _json(uris: Mapping[str, str], artifact: str, file: str) -> Any:
    """Read a file of an artifact; None when the artifact or the file is missing."""
    path = f"{uris.get(artifact)}/{file}"
    if not uris.get(artifact) or not tf.io.gfile.exists(path):
        return None
    return records.read_json(path)


def _answers(facts: Facts, uris: Mapping[str, str]) -> AnswerTable:
    """Return the answers by networks that have not seen the images."""
    from tfx.utils import path_utils

    learned = None
    if folds_of(facts) is not None and "model" in uris:
        learned = OutOfFold.read(path_utils.serving_model_path(uris["model"]))
    answers = AnswerTable.read(uris.get("predictions"), facts["settings"]["vocabulary"], learned)
    # The folds do not know the paths of the images that they alone have answered.
    unnamed = np.flatnonzero(answers.paths == "")
    place_of = records.places(uris["bank"], answers.hashes[unnamed]) if len(unnamed) else {}
    paths = answers.paths.copy()
    paths[unnamed] = [place_of.get(image, ("", ""))[1] for image in answers.hashes[unnamed]]
    return replace(answers, paths=paths)


def _add_metrics(facts: Facts, answers: AnswerTable) -> None:
    """Add what follows from the answers of the model."""
    deciding = answers.deciding()
    test = answers.of_split(names.TEST)
    facts["slices"] = slices(answers)
    if len(deciding):
        judged_by: AnsweredBy = names.VALIDATION if folds_of(facts) is None else FOLDS
        threshold = facts["gate"]["threshold"] if facts["gate"] is not None else None
        facts["deciding"] = deciding_answers(judged_by, threshold, deciding)
        # The images of validation are among those of the folds, and say nothing by themselves.
        facts["metrics"][judged_by] = metrics(deciding)
    if len(test):
        facts["metrics"][names.TEST] = metrics(test)


def _compared_labels(
    facts: Facts, bank: BankRows, answers: AnswerTable, images: ImageTable | None
) -> ComparedLabels | None:
    """Compare the labels of the feature bank with the answers."""
    # A label that a person has accepted or corrected is not doubted again.
    reviewed = images.reviewed if images is not None else []
    settled = {row["image_hash"] for row in reviewed if row["reason"] in ("accept", "relabel")}
    folds = folds_of(facts)
    unlearned = [label for label, _ in folds["unlearned"]] if folds is not None else []
    classes = len(facts["settings"]["vocabulary"])
    with one_blas_thread():
        return compared_labels(bank, classes, answers, unlearned, settled)


def encoded_images(examples_uri: str, wanted: Set[str]) -> Iterator[tuple[str, bytes]]:
    """Read the encoded images with wanted hashes, each with its hash."""
    left = set(wanted)
    for split in names.SPLITS:
        for example in records.iterate(examples_uri, split):
            if not left:
                return
            image_hash = records.text(example, names.IMAGE_HASH)
            if image_hash in left:
                left.remove(image_hash)
                yield image_hash, records.raw(example, names.IMAGE_BYTES)
