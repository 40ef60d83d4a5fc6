"""Drift of the data is refused until a person accepts it, and that of requests is told."""

import json
from pathlib import Path

import pytest
from PIL import Image, ImageEnhance

from imgpipe.pipeline.demo import LABELS, draw, draw_hand
from imgpipe.serving.client import Client
from tests.command import answered
from tests.e2e.case import Case
from tests.images import encoded
from tests.serving.quick import running

pytestmark = pytest.mark.slow
_IMAGES = 90


def test_data_with_drift_is_refused_until_it_is_accepted(tmp_path: Path):
    draw(tmp_path / "photos", per_class=60, size=96, faults=False)
    case = Case(tmp_path / "photos", tmp_path / "out")
    settings = ("course.views.count=1", "course.epochs=3", "evaluate.threshold=0.0")
    first = case.run(*settings)
    assert first.exit_code == 0, first.verdict
    for path in case.photos.rglob("*.*"):
        with Image.open(path) as image:
            dark = ImageEnhance.Brightness(image.convert("RGB")).enhance(0.35)
        dark.save(path)
    settings += ("evaluate.max_drop=1",)
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


def test_ordinary_images_are_no_drift(tmp_path: Path):
    draw(tmp_path / "photos", per_class=70, size=96, faults=False)
    case = Case(tmp_path / "photos", tmp_path / "out")
    # There are enough held-out images to estimate the distribution of the features.
    more = ("split.validation=0.3", "course.views.count=1", "course.epochs=4")
    outcome = case.run(*more, "evaluate.threshold=0.0")
    assert outcome.exit_code == 0, outcome.verdict
    hands = (draw_hand(LABELS[number % 3], 7000 + number, 96) for number in range(_IMAGES))
    log = {
        "request_log_prefix": str(tmp_path / "log"),
        "request_log_images": True,
        "request_log_sampling_rate": 1.0,
    }
    with running(case.out / "model", "imgpipe", **log) as server, Client(server.target) as client:
        client.classify([encoded(hand, "JPEG", quality=90) for hand in hands])
    found = answered("drift", tmp_path / "log", "--model", case.out)
    assert found["status"] == "no_drift", found["verdict"]
    requests = found["requests"]
    assert requests["answers"] == requests["different_images"] == _IMAGES
    assert found["findings"] == []
    references = {comparison["reference"] for comparison in requests["comparisons"]}
    assert {"the training data", "the validation images", "the held-out images"} < references
    assert "features unlike the training data" in {c["feature"] for c in requests["comparisons"]}
