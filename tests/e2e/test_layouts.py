"""A run on train/ and validation/ folders of two classes, the layout of many public data sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.case import Case

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory):
    """Run on 14 training and 6 validation images of each of two classes; return the outcome."""
    from imgpipe.pipeline.demo import draw_hand

    folder = tmp_path_factory.mktemp("layout")
    for split, count in (("train", 14), ("validation", 6)):
        for label in ("paper", "rock"):
            target = folder / "photos" / split / label
            target.mkdir(parents=True)
            for i in range(count):
                draw_hand(label, 100 * (split == "train") + i, 96).save(target / f"{i}.png")
    return Case(folder / "photos", folder / "out").run()


def test_the_given_splits_are_kept(outcome):
    assert outcome.exit_code == 0, outcome.verdict
    assert outcome.summary["data"]["by_split"] == {
        "train": {"paper": 14, "rock": 14},
        "validation": {"paper": 6, "rock": 6},
        "test": {"paper": 0, "rock": 0},
    }


def test_an_empty_split_has_no_metrics(outcome):
    assert set(outcome.summary["metrics"]) == {"validation"}
    assert outcome.summary["bank"]["forward_passes"] == 3 * 28 + 12


def test_two_classes_have_two_probabilities(outcome):
    from imgpipe.components.predictor import Served

    version = Path(outcome.summary["push"]["path"])
    images = sorted((version.parent.parent.parent / "photos").rglob("validation/*/0.png"))
    out = Served(str(version)).run(image_bytes=[path.read_bytes() for path in images])
    assert out["probabilities"].shape == (2, 2)
    assert out["probabilities"].sum(axis=1) == pytest.approx([1, 1], abs=1e-6)
    assert [label.decode() for label in out["label"]] == ["paper", "rock"]
