"""Whole runs with cross-validation in place of the validation split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.case import Case

pytestmark = pytest.mark.slow

FOLDS = "evaluate.cross_validate=3"


@pytest.fixture(scope="module")
def gated(case: Case, tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Any]:
    """Run the shared images with folds in a new output folder; return case and outcome."""
    own = Case(case.photos, tmp_path_factory.mktemp("gates") / "out")
    return own, own.run(FOLDS)


def test_folds_bless_and_the_summary_has_their_figures(gated: tuple[Case, Any]):
    _, outcome = gated
    assert outcome.exit_code == 0, outcome.verdict
    assert outcome.summary["push"]["status"] == "pushed"
    folds = outcome.summary["cross_validation"]
    assert folds["folds"] == len(folds["per_fold"]) == 3
    data = outcome.summary["data"]["splits"]
    assert folds["images"] == sum(sum(data[split].values()) for split in ("train", "validation"))
    assert folds["mean"] == pytest.approx(np.mean([f["accuracy"] for f in folds["per_fold"]]))
    assert f"mean accuracy {folds['mean']:.3f}" in outcome.verdict
    assert outcome.summary["warnings"] == []
    page = Path(outcome.summary["report"]).read_text(encoding="utf-8")
    assert "Cross-validation" in page


def test_again_without_changes_everything_is_cached(gated: tuple[Case, Any]):
    case, _ = gated
    outcome = case.run(FOLDS)
    assert "CrossValidator" in set(outcome.summary["cached"])
    assert outcome.summary["push"]["status"] == "unchanged"


def test_a_cross_validation_below_the_threshold_refuses_the_model(gated: tuple[Case, Any]):
    case, _ = gated
    outcome = case.run("evaluate.cross_validate=2", "evaluate.threshold=1.0", "train.epochs=1")
    assert outcome.exit_code == 3
    assert "over 2 folds" in outcome.verdict and "is below the threshold 1" in outcome.verdict
    assert outcome.summary["gate"]["failed"] == ["threshold"]
    assert outcome.summary["push"]["status"] == "refused"
    assert any("threshold 1" in reason for reason in outcome.summary["gate"]["reasons"])
