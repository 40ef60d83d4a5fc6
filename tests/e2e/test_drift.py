"""Tests that drift is refused until a person accepts it, after which the data is trained on."""

import json
from typing import Any

import pytest
from PIL import Image, ImageEnhance

from tests.e2e.case import Case

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Any]:
    """Run a case and darken its images afterwards; return the case and the blessed outcome."""
    from imgpipe.pipeline.demo import draw

    folder = tmp_path_factory.mktemp("drift")
    draw(folder / "photos", per_class=60, size=96, faults=False)
    case = Case(folder / "photos", folder / "out")
    first = case.run("course.views.count=1", "course.epochs=3", "evaluate.threshold=0.0")
    for path in case.photos.rglob("*.*"):
        with Image.open(path) as image:
            dark = ImageEnhance.Brightness(image.convert("RGB")).enhance(0.35)
        dark.save(path)
    return case, first


def test_data_with_drift_is_refused_until_it_is_accepted(changed: tuple[Case, Any]):
    case, first = changed
    assert first.exit_code == 0, first.verdict
    settings = (
        "course.views.count=1",
        "course.epochs=3",
        "evaluate.threshold=0.0",
        "evaluate.max_drop=1",
    )
    refused = case.run(*settings)
    assert refused.exit_code == 4, refused.verdict
    assert "drift 'brightness' in train: expected as in the last blessed run" in refused.verdict
    assert "--accept" in refused.verdict
    decision = json.loads((case.out / "gate.json").read_text())
    assert {reason["reason"] for reason in decision["reasons"]} == {"drift"}

    accepted = case.run(*settings, accept=True)
    assert accepted.exit_code == 0, accepted.verdict
    decision = json.loads((case.out / "gate.json").read_text())
    assert {warning["reason"] for warning in decision["warnings"]} == {"drift"}
    again = case.run(*settings)
    assert again.exit_code == 0 and again.repeated, "what was accepted stays so"
