"""Whole runs with cross-validation in place of the validation split."""

import hashlib
from typing import Any

import pytest

from imgpipe.components.common.storage import manifest
from imgpipe.components.image_filter.judge.overrides import to_toml
from imgpipe.models.head.certainty import AccuracyFigures
from imgpipe.models.settings.override import Override
from imgpipe.pipeline.commands import rollback
from imgpipe.pipeline.output.output_folder import OutputFolder
from imgpipe.pipeline.output.run_history import list_runs
from tests.e2e.case import Case

pytestmark = pytest.mark.slow

FOLDS = ("evaluate.cross_validate=3", "evaluate.max_drop=1")


@pytest.fixture(scope="module")
def gated(case: Case, tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Any]:
    """Run the shared images with folds in a new output folder; return case and outcome."""
    own = Case(case.photos, tmp_path_factory.mktemp("gates") / "out")
    return own, own.run(*FOLDS)


def test_the_accuracy_that_decided_is_the_one_that_is_told_everywhere(gated: tuple[Case, Any]):
    case, outcome = gated
    folds = outcome.result["training"]["cross_validation"]
    decided_by = outcome.result["gate"]["decided_by"]
    accuracy = folds["correct"] / folds["images"]
    assert (decided_by["kind"], decided_by["accuracy"]) == ("folds", accuracy)
    assert (decided_by["count"], decided_by["correct"]) == (folds["images"], folds["correct"])
    assert (outcome.accuracy, outcome.interval) == (accuracy, tuple(decided_by["ci95"]))
    metrics = outcome.metrics
    assert list(metrics) == ["folds", "test"]
    assert {name: metrics["folds"][name] for name in AccuracyFigures.__annotations__} == {
        name: decided_by[name] for name in AccuracyFigures.__annotations__
    }
    (listed,) = list_runs(case.out, OutputFolder(case.out).runs, 1)["runs"]
    assert listed["gate"]["decided_by"] == decided_by
    said = f"cross-validation accuracy {accuracy:.3f} ({folds['correct']} of {folds['images']}"
    assert said in outcome.verdict
    assert said in manifest.latest(outcome.model.parent).manifest["figures"]
    assert f"{folds['correct']} of {folds['images']}" in outcome.report.read_text("utf-8")


def test_decisions_of_a_review_count_and_a_withdrawn_model_ends_with_3(gated: tuple[Case, Any]):
    case, _ = gated
    photos = sorted((case.photos / "rock").iterdir())[-3:]
    hashes = [hashlib.sha256(photo.read_bytes()).hexdigest() for photo in photos]
    decided = [Override(hashes[0], "accept"), *(Override(one, "reject") for one in hashes[1:])]
    (case.out / "overrides.toml").write_text(to_toml(decided), encoding="utf-8")
    outcome = case.run(*FOLDS)
    assert (outcome.exit_code, outcome.repeated) == (0, False), outcome.verdict
    assert "a person has decided about 3 images: 1 accepted, 2 rejected" in outcome.verdict
    assert outcome.result["data"]["overrides"]["applied"] == {"accept": 1, "reject": 2}
    rollback.rollback(case.out, None)
    for repeated in (False, True):
        outcome = case.run(*FOLDS)
        assert (outcome.exit_code, outcome.repeated) == (3, repeated)
        assert outcome.verdict.startswith(
            "not published: a rollback has withdrawn this model, which is that of version "
        )
        assert outcome.status == "not_published"
        withdrawn = outcome.result["push"]["withdrawn"]
        (again,) = (one["remedies"][0] for one in outcome.next if one["reason"] == "publish")
        assert again == f"imgpipe rollback {case.out} --to {withdrawn}"
