"""Tests of which logged images are compared with the features of the training data."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from imgpipe.models.export.signatures import FEATURE_VECTORS
from imgpipe.pipeline.request_drift import unfamiliar_images
from imgpipe.pipeline.request_drift.unfamiliar_images import Share

FAMILIAR, OTHER = b"0", b"9"


class Served:
    """A model whose feature of an image is the number that its bytes spell."""

    def __init__(self, *_: object) -> None:
        self.close = lambda: None

    def run(self, image_bytes: list[bytes]) -> dict[str, np.ndarray]:
        return {FEATURE_VECTORS: np.array([float(one) for one in image_bytes])}


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a reference in which the score of an image is its feature."""
    monkeypatch.setattr(unfamiliar_images, "Served", Served)
    features = SimpleNamespace(scores=lambda found: found, threshold=5.0, far=8.0)
    return SimpleNamespace(features=features, version=SimpleNamespace(path=Path("model/1")))


@pytest.mark.parametrize(
    ("familiar", "other", "expected"),
    [
        pytest.param(2000, 3000, Share(1200, 2000), id="evenly spread over a long log"),
        pytest.param(1900, 101, Share(100, 2000), id="one image too many"),
        pytest.param(30, 10, Share(10, 40), id="all of a short log"),
    ],
)
def test_the_examined_images_stand_for_the_whole_log(
    reference: Any, familiar: int, other: int, expected: Share
) -> None:
    images = [FAMILIAR] * familiar + [OTHER] * other
    with unfamiliar_images.Unfamiliar(reference, len(images)) as unfamiliar:
        for start in range(0, len(images), 128):
            unfamiliar.count(images[start : start + 128])
    assert unfamiliar.share.of == expected.of == unfamiliar.far.of
    assert unfamiliar.share.value == pytest.approx(expected.value, abs=1e-3)
