"""Drift of the data is refused until a person accepts it, and that of requests is told."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageEnhance

from imgpipe.serving.client import Client
from tests import command, json_formats
from tests.e2e.case import Case
from tests.images import encoded
from tests.serving.quick import running

pytestmark = pytest.mark.slow
_IMAGES = 90


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


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Return a case whose run published a model."""
    from imgpipe.pipeline.demo import draw

    folder = tmp_path_factory.mktemp("asked")
    draw(folder / "photos", per_class=70, size=96, faults=False)
    case = Case(folder / "photos", folder / "out")
    # There are enough held-out images to estimate the distribution of the features.
    more = ("split.validation=0.3", "course.views.count=1", "course.epochs=4")
    outcome = case.run(*more, "evaluate.threshold=0.0")
    assert outcome.exit_code == 0, outcome.verdict
    return case


def drawn() -> list[bytes]:
    """Return `_IMAGES` JPEG files of hands."""
    from imgpipe.pipeline.demo import LABELS, draw_hand

    hands = (draw_hand(LABELS[number % 3], 7000 + number, 96) for number in range(_IMAGES))
    return [encoded(hand, "JPEG", quality=90) for hand in hands]


def ask(case: Case, prefix: Path, images: list[bytes], log_images: bool = True) -> None:
    """Classify images with a server that logs its requests at `prefix`."""
    logs = {"request_log_prefix": str(prefix), "request_log_images": log_images}
    with (
        running(case.out / "model", "imgpipe", request_log_sampling_rate=1.0, **logs) as server,
        Client(server.target) as client,
    ):
        client.classify(images)


def drift(case: Case, prefix: Path, *flags: str) -> tuple[int, Any]:
    """Run `imgpipe drift` on a request log; return the exit code and the parsed JSON."""
    done = command.imgpipe("drift", str(prefix), "--model", str(case.out), "--json", "-", *flags)
    assert done.returncode in (0, 4), done.stderr
    found = json.loads(done.stdout)
    json_formats.conform("drift", found)
    return done.returncode, found


def test_ordinary_images_are_no_drift(served: Case, tmp_path: Path):
    ask(served, tmp_path / "log", drawn())
    code, found = drift(served, tmp_path / "log")
    assert code == 0 and found["status"] == "no_drift", found["verdict"]
    requests = found["requests"]
    assert requests["answers"] == requests["different_images"] == _IMAGES
    assert found["findings"] == []
    references = {comparison["reference"] for comparison in requests["comparisons"]}
    assert {"the training data", "the validation images", "the held-out images"} < references
    assert "features unlike the training data" in {c["feature"] for c in requests["comparisons"]}
