"""Tests that ``imgpipe drift`` tells ordinary from dark images that were sent to a server."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import ImageEnhance

from tests import json_formats
from tests.e2e.case import Case
from tests.images import encoded

pytestmark = pytest.mark.slow
_SECONDS = 120.0
_IMAGES = 90


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Return a case whose run published a model."""
    from imgpipe.pipeline.demo import draw

    folder = tmp_path_factory.mktemp("asked")
    draw(folder / "photos", per_class=70, size=96, faults=False)
    case = Case(folder / "photos", folder / "out")
    # There are enough held-out images to estimate the distribution of the features.
    more = ("split.validation=0.3", "views.count=1", "train.epochs=4")
    outcome = case.run(*more, "evaluate.threshold=0.0")
    assert outcome.exit_code == 0, outcome.verdict
    return case


def drawn(brightness: float) -> list[bytes]:
    """Return `_IMAGES` JPEG files of hands; a brightness of 1 leaves them as they are."""
    from imgpipe.pipeline.demo import draw_hand

    images = []
    for number in range(_IMAGES):
        label = ("paper", "rock", "scissors")[number % 3]
        hand = ImageEnhance.Brightness(draw_hand(label, 7000 + number, 96)).enhance(brightness)
        images.append(encoded(hand, "JPEG", quality=90))
    return images


def imgpipe(*arguments: str) -> list[str]:
    """Return the command line of imgpipe with these arguments."""
    return [sys.executable, "-m", "imgpipe.pipeline.cli", *arguments]


def ask(case: Case, prefix: Path, images: list[bytes], *flags: str) -> None:
    """Run ``imgpipe serve`` with a request log at ``prefix`` while the images are classified."""
    from imgpipe.serving.client import Client

    said = prefix.with_suffix(".said")
    base = str(case.out / "model")
    command = imgpipe("serve", base, "--port", "0", "--request-log", str(prefix), *flags)
    with said.open("wb") as file:
        server = subprocess.Popen([*command, "--log-share", "1"], stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + _SECONDS
        while (found := re.search(r"127\.0\.0\.1:(\d+)", said.read_text(errors="replace"))) is None:
            assert time.monotonic() < deadline and server.poll() is None, said.read_text()
            time.sleep(0.1)
        with Client(f"127.0.0.1:{found[1]}", model="imgpipe") as client:
            client.wait_until_available(_SECONDS)
            client.classify(images)
        os.kill(server.pid, signal.SIGTERM)
        server.wait(_SECONDS)
    finally:
        server.kill()
        server.wait()


def drift(case: Case, prefix: Path, *flags: str) -> tuple[int, Any]:
    """Run ``imgpipe drift`` on a request log; return the exit code and the parsed JSON."""
    command = imgpipe("drift", str(prefix), "--model", str(case.out), "--json", "-", *flags)
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    assert done.returncode in (0, 4), done.stderr
    found = json.loads(done.stdout)
    json_formats.conform("drift", found)
    return done.returncode, found


def test_ordinary_images_are_no_drift(served: Case, tmp_path: Path):
    ask(served, tmp_path / "log", drawn(1.0), "--log-images")
    code, found = drift(served, tmp_path / "log", "--images", str(tmp_path / "label"))
    assert code == 0 and found["drift"] is False, found["verdict"]
    (version,) = found["versions"]
    assert version["answers"] == version["different_pictures"] == _IMAGES
    subjects = {comparison["subject"] for comparison in version["comparisons"]}
    assert subjects == {"pictures", "predictions"} and version["notes"] == []
    assert "features unlike the training data" in {c["feature"] for c in version["comparisons"]}
    assert len(list((tmp_path / "label").glob("*.jpg"))) == 50


def test_dark_images_are_drift(served: Case, tmp_path: Path):
    ask(served, tmp_path / "log", drawn(0.35), "--log-images")
    code, found = drift(served, tmp_path / "log")
    assert code == 4 and "brightness" in found["verdict"]


def test_without_images_the_log_holds_predictions_alone(served: Case, tmp_path: Path):
    images = drawn(1.0)
    ask(served, tmp_path / "log", images)
    content = b"".join(path.read_bytes() for path in tmp_path.glob("log-*.tfrecord"))
    assert images[0] not in content and len(content) < 100_000
    _, found = drift(served, tmp_path / "log")
    assert found["log"]["pictures"] == 0 and found["log"]["answers"] == _IMAGES
    (version,) = found["versions"]
    features = {comparison["feature"].split(" under")[0] for comparison in version["comparisons"]}
    assert features == {"label", "confidence"}
