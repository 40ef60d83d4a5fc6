"""A run on train/ and validation/ folders of two classes, the layout of many public data sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.case import Case
from tests.images import save

pytestmark = pytest.mark.slow


def test_splits_of_two_classes_are_taken_as_given(tmp_path: Path):
    """14 training and 6 validation images of each class, and none for test."""
    from imgpipe.components.predictor import Served
    from imgpipe.pipeline.demo import draw_hand

    case = Case(tmp_path / "photos", tmp_path / "out")
    for split, count in (("train", 14), ("validation", 6)):
        for label in ("paper", "rock"):
            for i in range(count):
                drawn = draw_hand(label, 100 * (split == "train") + i, 96)
                save(drawn, case.photos / split / label / f"{i}.png")
    outcome = case.run()
    assert outcome.exit_code == 0, outcome.verdict
    assert outcome.summary["data"]["by_split"] == {
        "train": {"paper": 14, "rock": 14},
        "validation": {"paper": 6, "rock": 6},
        "test": {"paper": 0, "rock": 0},
    }
    assert set(outcome.summary["metrics"]) == {"validation"}, "an empty split has no metrics"
    assert outcome.summary["bank"]["forward_passes"] == 3 * 28 + 12
    images = sorted(case.photos.rglob("validation/*/0.png"))
    model = Served(outcome.summary["push"]["path"])
    out = model.run(image_bytes=[path.read_bytes() for path in images])
    assert out["probabilities"].shape == (2, 2)
    assert out["probabilities"].sum(axis=1) == pytest.approx([1, 1], abs=1e-6)
    assert [label.decode() for label in out["label"]] == ["paper", "rock"]
