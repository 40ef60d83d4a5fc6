"""The result of a run, read from its artifacts.

Any artifact may be missing. A part from a new artifact needs a field of `Result` and a row in
`REPORTED`, which graph and component share.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pandas as pd
import tensorflow as tf

from imgpipe.components.common import artifacts
from imgpipe.components.common import images as tables
from imgpipe.components.common.answer_table import AnswerTable
from imgpipe.components.common.storage import records
from imgpipe.components.image_evaluator.decision import BASELINE_FILE, DECISION_FILE, FOLDS
from imgpipe.components.image_filter import quarantine
from imgpipe.components.image_filter.findings import with_severity
from imgpipe.components.model_pusher.versions import PUSH_FILE
from imgpipe.components.run_record.doubtful_labels import (
    ComparedLabels,
    ImageAnswers,
    compared_labels,
    image_answers,
)
from imgpipe.components.run_record.metrics import (
    AnsweredBy,
    judged_answers,
    metrics,
    sample,
    slices,
)
from imgpipe.components.run_record.result import Result, folds_of, new, of_settings
from imgpipe.components.run_record.shown_images import distances, galleries, image_map
from imgpipe.models import names
from imgpipe.models.features.bank import BANK_FILE, BankRows, read_rows
from imgpipe.models.head.answers import OutOfFold
from imgpipe.models.machine.process import one_blas_thread
from imgpipe.models.settings.given import Given
from imgpipe.models.settings.places import GATE_FILE


@dataclass(frozen=True)
class ReportedArtifact:
    """An artifact that the report reads.

    Attributes:
        component: Id of the component that writes the artifact.
        output: Key of the component's output.
        type: Name of the artifact type, one of TFX's standard artifacts or of
            `components/common/artifacts.py`.
        file: JSON file in the artifact that is part of the result as it is; "" if there is none.
        part: Name of the file's content in the result; "" for the name of the artifact.
    """

    component: str
    output: str
    type: str
    file: str = ""
    part: str = ""


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
        "ImageTrainer", "model_run", "ModelRun", names.HISTORY_FILE, "training"
    ),
    "model": ReportedArtifact("ImageTrainer", "model", "Model"),
    "baseline": ReportedArtifact("ImageEvaluator", "blessing", "ModelBlessing", BASELINE_FILE),
    "model_blessing": ReportedArtifact(
        "ImageEvaluator", "blessing", "ModelBlessing", DECISION_FILE, "gate"
    ),
    "predictions": ReportedArtifact("ImageEvaluator", "predictions", "Examples"),
    "infra_blessing": ReportedArtifact(
        "ServingValidator", "blessing", "InfraBlessing", artifacts.VALIDATION, "serving"
    ),
    "pushed_model": ReportedArtifact(
        "ModelPusher", "pushed_model", "PushedModel", PUSH_FILE, "push"
    ),
    "examples": ReportedArtifact("ImageFilter", "examples", "Examples"),
}


def collect(uris: Mapping[str, str], given: Given) -> tuple[Result, ImageAnswers | None]:
    """Collect the result of a run, and the answers to every image if there is a feature bank.

    Args:
        uris: Artifact URIs by the names of `REPORTED`.
        given: The settings of the run, and what its plan knows.
    """
    result = new(**of_settings(given), **dict(_read_parts(uris)))
    kept = tables.kept(None)
    if result["data"] is not None:
        kept = tables.kept(uris["quarantine"])
        findings = quarantine.read_findings(uris["quarantine"])
        result["rejected"] = with_severity(findings, "reject")
    result["quarantine"] = uris.get("quarantine", "")
    answers = _answers(result, uris, kept)
    every_answer = None
    _add_metrics(result, answers)
    if result["bank"] is not None and result["bank"]["sizes"]:
        vocabulary = result["classes"]
        bank = read_rows(uris["bank"], names.SPLITS, len(vocabulary), 0)
        compared = _compared_labels(result, bank, answers, kept)
        result["suspects"] = compared.ranking(kept, vocabulary)
        far = distances(bank.first_block(), len(vocabulary))
        every_answer = image_answers(far, compared)
        # The map takes as long as the rest. The limit of one BLAS thread is set here too, because
        # both threads enter and leave it.
        with one_blas_thread(), ThreadPoolExecutor(1) as threads:
            placed = threads.submit(image_map, bank, sample(answers.deciding()))
            result["galleries"] = galleries(bank, kept, vocabulary, far.own, compared.wrong > 0)
            result["map"] = placed.result()
    training = result["training"]
    if training is not None:
        result["image_size"] = training["image_size"]  # a search may choose another size
    return result, every_answer


def _read_parts(uris: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """Yield the parts of the result that are files of artifacts, each with its name."""
    for name, row in REPORTED.items():
        path = f"{uris.get(name)}/{row.file}"
        if row.file and name in uris and tf.io.gfile.exists(path):
            yield row.part or name, records.read_json(path)


def _answers(result: Result, uris: Mapping[str, str], kept: pd.DataFrame) -> AnswerTable:
    """Return the answers by networks that have not seen the images."""
    from tfx.utils import path_utils

    learned = None
    if folds_of(result) is not None and "model" in uris:
        learned = OutOfFold.read(path_utils.serving_model_path(uris["model"]))
    return AnswerTable.read(uris.get("predictions"), result["classes"], kept, learned)


def _add_metrics(result: Result, answers: AnswerTable) -> None:
    """Add what follows from the answers of the model."""
    deciding = answers.deciding()
    test = answers.of_split(names.TEST)
    new = ~answers.seen_family & (answers.splits != names.TRAIN)
    result["slices"] = slices(answers.select(new))
    judged_by: AnsweredBy = names.VALIDATION if folds_of(result) is None else FOLDS
    if len(test) < len(answers):
        # The images of validation are among those of the folds, and say nothing by themselves.
        result["metrics"][judged_by] = metrics(answers.select(answers.splits != names.TEST))
    if len(deciding):
        threshold = result["gate"]["threshold"] if result["gate"] is not None else None
        result["answers"] = judged_answers(judged_by, threshold, deciding)
    if len(test):
        result["metrics"][names.TEST] = metrics(test)


def _compared_labels(
    result: Result, bank: BankRows, answers: AnswerTable, kept: pd.DataFrame
) -> ComparedLabels:
    """Compare the labels of the feature bank with the answers."""
    # A label that a person has accepted or corrected is not doubted again.
    settled = {*kept.loc[kept["verdict"] != "", "image_hash"]}
    folds = folds_of(result)
    unlearned = [label for label, _ in folds["unlearned"]] if folds is not None else []
    classes = len(result["classes"])
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
