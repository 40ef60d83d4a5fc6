"""ImageEvaluator on stored predictions: metrics and decision are those of the answers."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgpipe.components.common import artifacts, row_files
from imgpipe.components.common.answer_table import AnswerTable
from imgpipe.components.common.image_row import ImageRow
from imgpipe.components.common.row_files import kept_images
from imgpipe.components.common.storage import records
from imgpipe.components.image_evaluator import image_evaluator
from imgpipe.components.image_evaluator.decision import DECISION_FILE
from imgpipe.components.image_evaluator.settings import EvaluatorPlan
from imgpipe.models import names
from imgpipe.models.settings.running import EvaluateSettings
from tests.models.banks import write_examples

# TFX and TFMA warn about their own dependencies; none of these warnings can be fixed here.
pytestmark = pytest.mark.filterwarnings("ignore")

_IMAGES = 40
_SEEN = "a1" * 8  # short hash of the first image, on which the baseline was trained


@pytest.fixture(autouse=True)
def _no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clear the arguments of the program, which TFX's Beam executors would parse as their flags."""
    monkeypatch.setattr(sys, "argv", sys.argv[:1])


def _answers(classes: int, right: int, seed: int) -> np.ndarray:
    """Return probabilities [n, C] for labels i % C; the first `right` rows alone are right."""
    rows = np.random.default_rng(seed).dirichlet(np.full(classes, 0.3), _IMAGES)
    for i, row in enumerate(rows):
        wanted, best = (i + (i >= right)) % classes, int(row.argmax())
        row[wanted], row[best] = row[best], row[wanted]
    return rows.astype(np.float32)


def _stored(
    uri: Path, answers: np.ndarray, baseline: np.ndarray | None = None, films: int = 0
) -> Any:
    """Write predictions as Predictor does, beside the table of their images.

    The images are those of validation; test has none. `answers` and `baseline` are probabilities
    [n, C]. The first `films` images are frames of films, four of each, of which train has others.
    """
    from tfx.types.standard_artifacts import Examples

    from imgpipe.components.common.artifacts import mark_examples

    classes = answers.shape[1]
    images = [
        ImageRow(
            f"{i}.jpg",
            f"class {i % classes}",
            i % classes,
            names.VALIDATION,
            _SEEN * 4 if i == 0 else f"{i:064x}",
            family=f"film {i // 4}" if i < films else "",
            seen_family=i < films,
        )
        for i in range(len(answers))
    ]
    row_files.write(row_files.shard_path(str(uri), 0, 1), images)
    rows = []
    for i, (image, row) in enumerate(zip(images, answers, strict=True)):
        described = {
            names.SPLIT: image.split,
            names.LABEL: image.label,
            names.LABEL_INDEX: image.label_index,
            names.IMAGE_HASH: image.image_hash,
            names.PROBABILITIES: row.tolist(),
        }
        if baseline is not None:
            described[names.BASELINE_PROBABILITIES] = baseline[i].tolist()
        rows.append((image.split, described))
    write_examples(uri, rows)
    artifact = Examples()
    artifact.uri = str(uri)
    mark_examples(artifact)
    return artifact


def _evaluated(folder: Path, predictions: Any, classes: int, baseline: bool = False) -> Any:
    from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
    from tfx.types import standard_artifacts as kinds
    from tfx.utils import json_utils, path_utils

    def artifact(kind: Any, name: str) -> Any:
        made = kind()
        made.uri = str(folder / name)
        return made

    inputs = {
        "examples": [predictions],
        "model": [artifact(kinds.Model, "model")],
        "baseline_model": [artifact(kinds.Model, "baseline")],
        "infra_blessing": [artifact(kinds.InfraBlessing, "infra")],
        "quarantine": [artifact(artifacts.Quarantine, "predictions")],
    }
    artifacts.mark(str(folder / "infra"), artifacts.INFRA_BLESSED)
    state = {"version": 7, "compared": baseline, "why": "", "columns": list(range(classes))}
    records.write_json(f"{folder}/baseline/baseline.json", state)
    if baseline:
        Path(path_utils.serving_model_path(inputs["baseline_model"][0].uri)).mkdir(parents=True)
        records.write_text(f"{folder}/baseline/images.txt", f"{_SEEN} train\n")
    blessing = artifact(kinds.ModelBlessing, "blessing")
    outputs = {
        "evaluation": [artifact(kinds.ModelEvaluation, "evaluation")],
        "blessing": [blessing],
    }
    context = BaseBeamExecutor.Context(
        beam_pipeline_args=["--runner=FnApiRunner", "--sdk_container_image=none"],
        tmp_dir=str(folder / "tmp"),
        unique_id="1",
    )
    vocabulary = tuple(f"class {i}" for i in range(classes))
    settings = EvaluateSettings(threshold=0.8, max_drop=0.05)
    properties = {
        "settings": EvaluatorPlan(settings=settings, vocabulary=vocabulary).to_json(),
        "example_splits": json_utils.dumps([names.VALIDATION, names.TEST]),
    }
    image_evaluator.ImageEvaluatorExecutor(context).Do(inputs, outputs, properties)
    decision = records.read_json(f"{folder}/blessing/{DECISION_FILE}")
    marked = artifacts.is_blessed(f"{folder}/blessing")
    assert marked != artifacts.is_blessed(f"{folder}/blessing", artifacts.NOT_BLESSED)
    assert marked == decision["blessed"] == bool(blessing.get_int_custom_property("blessed"))
    return decision


def _tfma(folder: Path) -> dict[str, dict[str, float]]:
    import tensorflow_model_analysis as tfma

    found: dict[str, dict[str, float]] = {}
    for record in tfma.load_metrics(f"{folder}/evaluation"):
        keys = {k.column: k.bytes_value.decode() for k in record.slice_key.single_slice_keys}
        if keys == {names.SPLIT: names.VALIDATION}:
            for entry in record.metric_keys_and_values:
                key = entry.key
                if not key.is_diff and not key.HasField("sub_key"):
                    metrics = found.setdefault(key.model_name, {})
                    metrics[key.name] = entry.value.double_value.value
    return found


def _loss(answers: np.ndarray) -> float:
    labels = np.arange(_IMAGES) % answers.shape[1]
    return float(-np.log(answers[np.arange(_IMAGES), labels]).mean())


def test_metrics_and_decision_are_those_of_the_stored_predictions(tmp_path: Path):
    classes = 1_200
    answers = _answers(classes, right=34, seed=classes)
    decision = _evaluated(tmp_path, _stored(tmp_path / "predictions", answers), classes)
    assert decision["blessed"] is True
    decided_by = decision["decided_by"]
    assert (decided_by["correct"], decided_by["count"]) == (34, _IMAGES)
    assert decision["baseline"] is None
    (metrics,) = _tfma(tmp_path).values()
    assert metrics["example_count"] == _IMAGES
    assert metrics["sparse_categorical_accuracy"] == pytest.approx(
        decision["decided_by"]["accuracy"]
    )
    assert metrics["sparse_categorical_crossentropy"] == pytest.approx(_loss(answers), rel=1e-4)


def test_a_better_baseline_refuses_the_model(tmp_path: Path):
    answers, before = _answers(3, right=33, seed=1), _answers(3, right=40, seed=2)
    stored = _stored(tmp_path / "predictions", answers, before)
    decision = _evaluated(tmp_path, stored, 3, baseline=True)
    assert decision["failed"] == ["last_version"]
    compared = "right for 32 of 39 validation images, where version 7 is right for 39"
    assert compared in decision["reasons"][0]
    metrics = _tfma(tmp_path)
    for model, rows, right in (("candidate", answers, 33), ("baseline", before, 40)):
        found = metrics[model]
        assert found["sparse_categorical_accuracy"] == pytest.approx(right / _IMAGES)
        assert found["sparse_categorical_crossentropy"] == pytest.approx(_loss(rows), rel=1e-2)


def test_images_of_families_that_train_has_are_counted_apart(tmp_path: Path):
    answers = _answers(2, right=36, seed=1)
    stored = _stored(tmp_path / "predictions", answers, films=24)
    decision = _evaluated(tmp_path, stored, 2)
    right = int((answers[24:].argmax(axis=1) == np.arange(24, _IMAGES) % 2).sum())
    validation = AnswerTable.read(stored.uri, ["a", "b"], kept_images(stored.uri))
    unseen = validation.unseen()
    assert (len(unseen), unseen.right.sum()) == (_IMAGES - 24, right)
    decided_by = decision["decided_by"]
    assert (decided_by["correct"], decided_by["count"]) == (right, _IMAGES - 24)
