"""ImageEvaluator on stored predictions: decision and TFMA's metrics are those of the answers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgpipe.components.common.answer_table import AnswerTable
from imgpipe.components.common.images import kept
from imgpipe.components.image_evaluator import image_evaluator, rules, tfma_result
from imgpipe.components.image_evaluator.compared_version import ComparedVersion
from imgpipe.components.image_evaluator.decision import BaselineState
from imgpipe.components.image_evaluator.image_evaluator import EvaluatorUris
from imgpipe.models import names
from imgpipe.models.settings.given import Facts, Given
from imgpipe.models.settings.running import EvaluateSettings
from imgpipe.models.settings.settings import Settings
from tests import image_tables
from tests.models.banks import write_examples

# TFX and TFMA warn about their own dependencies; none of these warnings can be fixed here.
pytestmark = pytest.mark.filterwarnings("ignore")

_IMAGES = 40
_SEEN = "a1" * 8  # short hash of the first image, on which the baseline was trained


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
    """Write predictions as ImageEvaluator does, beside the table of their images.

    The images are those of validation; test has none. `answers` and `baseline` are probabilities
    [n, C]. The first `films` images are frames of films, four of each, of which train has others.
    """
    from tfx.types.standard_artifacts import Examples

    from imgpipe.components.common.artifacts import mark_examples

    classes = answers.shape[1]
    images = [
        image_tables.row(
            f"{i}.jpg",
            f"class {i % classes}",
            i % classes,
            names.VALIDATION,
            _SEEN * 4 if i == 0 else f"{i:064x}",
            family=f"film {i // 4}" if i < films else f"{i:064x}",
            seen_family=i < films,
        )
        for i in range(len(answers))
    ]
    image_tables.write(uri, images)
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
    """Decide about a model by its stored predictions, and return the decision."""
    uri = str(predictions.uri)
    uris = EvaluatorUris(examples="", model=str(folder / "model"), quarantine=uri, predictions=uri)
    vocabulary = tuple(f"class {i}" for i in range(classes))
    settings = Settings(evaluate=EvaluateSettings(threshold=0.8, max_drop=0.05))
    given = Given(settings, Facts(vocabulary=vocabulary))
    state: BaselineState = {
        "version": 7,
        "digest": "",
        "compared": baseline,
        "why": "",
        "columns": list(range(classes)),
    }
    known = {_SEEN: "train"} if baseline else {}
    compared = ComparedVersion(state, "", known)
    return rules.decide(image_evaluator.evidence(uris, given, compared))


def _tfma(folder: Path, predictions: Any, classes: int, baseline: bool = False) -> Any:
    """Write TFMA's result of stored predictions; return the metrics of validation by model."""
    import tensorflow_model_analysis as tfma
    from apache_beam import Pipeline
    from apache_beam.options.pipeline_options import PipelineOptions

    pipeline = Pipeline(options=PipelineOptions(["--runner=FnApiRunner"]))
    result = str(folder / "evaluation")
    tfma_result.write(pipeline, str(predictions.uri), result, classes, baseline)
    found: dict[str, dict[str, float]] = {}
    slices = set()
    for record in tfma.load_metrics(result):
        keys = {k.column: k.bytes_value.decode() for k in record.slice_key.single_slice_keys}
        slices.add(tuple(sorted(keys)))
        if keys == {names.SPLIT: names.VALIDATION}:
            for entry in record.metric_keys_and_values:
                key = entry.key
                if not key.is_diff and not key.HasField("sub_key"):
                    metrics = found.setdefault(key.model_name, {})
                    metrics[key.name] = entry.value.double_value.value
    by_class = {(names.LABEL, names.SPLIT)} if classes <= 100 else set()
    assert slices == {(), (names.SPLIT,)} | by_class
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


def test_a_better_baseline_refuses_the_model(tmp_path: Path):
    answers, before = _answers(3, right=33, seed=1), _answers(3, right=40, seed=2)
    stored = _stored(tmp_path / "predictions", answers, before)
    decision = _evaluated(tmp_path, stored, 3, baseline=True)
    assert decision["failed"] == ["last_version"]
    compared = "right for 32 of 39 validation images, where version 7 is right for 39"
    assert compared in decision["reasons"][0]


@pytest.mark.slow
@pytest.mark.parametrize("classes", [3, 1_200])
def test_the_result_of_tfma_is_that_of_the_same_answers(tmp_path: Path, classes: int):
    answers, before = _answers(classes, right=33, seed=1), _answers(classes, right=40, seed=2)
    stored = _stored(tmp_path / "alone", answers)
    (metrics,) = _tfma(tmp_path / "of one", stored, classes).values()
    assert metrics["example_count"] == _IMAGES
    decision = _evaluated(tmp_path, stored, classes)
    assert metrics["sparse_categorical_accuracy"] == pytest.approx(
        decision["decided_by"]["accuracy"]
    )
    assert metrics["sparse_categorical_crossentropy"] == pytest.approx(_loss(answers), rel=1e-2)
    stored = _stored(tmp_path / "pair", answers, before)
    of_two = _tfma(tmp_path / "of two", stored, classes, baseline=True)
    for model, rows, right in (("candidate", answers, 33), ("baseline", before, 40)):
        found = of_two[model]
        assert found["sparse_categorical_accuracy"] == pytest.approx(right / _IMAGES)
        assert found["sparse_categorical_crossentropy"] == pytest.approx(_loss(rows), rel=1e-2)


def test_images_of_families_that_train_has_are_counted_apart(tmp_path: Path):
    answers = _answers(2, right=36, seed=1)
    stored = _stored(tmp_path / "predictions", answers, films=24)
    decision = _evaluated(tmp_path, stored, 2)
    right = int((answers[24:].argmax(axis=1) == np.arange(24, _IMAGES) % 2).sum())
    validation = AnswerTable.read(stored.uri, ["a", "b"], kept(stored.uri))
    unseen = validation.unseen()
    assert (len(unseen), unseen.right.sum()) == (_IMAGES - 24, right)
    decided_by = decision["decided_by"]
    assert (decided_by["correct"], decided_by["count"]) == (right, _IMAGES - 24)
