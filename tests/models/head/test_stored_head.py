"""Tests that the stored head answers like the network, or is not stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from imgpipe.models.errors import ResourceError
from imgpipe.models.head import stored_head
from imgpipe.models.head.stored_head import StoredHead
from imgpipe.models.layer_names import FEATURES, PROBABILITIES
from imgpipe.models.network.classifier import build_classifier, build_head
from imgpipe.models.settings import ModelSettings

_SETTINGS = {"backbone": "conv_4_8", "weights": "none", "freeze": "all", "image_size": 32}


def _network(classes: int, below: float = 0.0, **changed: object):
    """Return a random head, its whole network, and features and probabilities of 20 images."""
    settings = ModelSettings.from_mapping({**_SETTINGS, **changed})
    head = build_head(8, classes, settings)
    draw = np.random.default_rng(0)
    head.set_weights([draw.normal(size=array.shape) for array in head.get_weights()])
    names = [f"class {number}" for number in range(classes)]
    classifier = build_classifier(head, names, settings, 1.7, below)
    pixels = draw.integers(0, 256, (20, 32, 32, 3)).astype(np.float32)
    answers = classifier.network(pixels)
    return head, classifier, answers[FEATURES].numpy(), answers[PROBABILITIES].numpy()


@pytest.mark.parametrize(
    ("classes", "activation"), [(2, "sigmoid"), (2, "softmax"), (3, "softmax")]
)
def test_a_stored_head_gives_the_probabilities_of_the_network(
    tmp_path: Path, classes, activation
) -> None:
    head, classifier, features, expected = _network(classes, activation=activation)
    stored = StoredHead.of(head, classifier)
    assert stored is not None
    stored.save(tmp_path)
    found = stored_head.read(str(tmp_path))
    assert found is not None
    np.testing.assert_allclose(found.probabilities(features), expected, atol=1e-5)
    assert found.vocabulary == classifier.vocabulary
    assert found.agrees(features, expected)
    assert found.label(expected[0]) == f"class {expected[0].argmax()}"


def test_an_improbable_label_is_unknown() -> None:
    head, classifier, _, _ = _network(3, below=0.6)
    stored = StoredHead.of(head, classifier)
    assert stored is not None
    assert stored.label(np.array([0.5, 0.3, 0.2], np.float32)) == "unknown"
    assert stored.label(np.array([0.7, 0.2, 0.1], np.float32)) == "class 0"


def test_features_of_another_network_do_not_agree() -> None:
    head, classifier, features, expected = _network(3)
    stored = StoredHead.of(head, classifier)
    assert stored is not None
    assert not stored.agrees(features + 1, expected[:, ::-1])
    assert not stored.agrees(features[:0], expected[:0])


def test_a_head_with_a_hidden_layer_is_not_stored(tmp_path: Path) -> None:
    head, classifier, _, _ = _network(3, hidden_units=4)
    assert StoredHead.of(head, classifier) is None
    assert stored_head.read(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bias": np.zeros(3, np.float32)}, "expected weights of 2 classes"),
        ({"kernel": np.full((4, 2), np.nan, np.float32)}, "expected finite weights"),
        (None, "ValueError"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, change, words: str) -> None:
    arrays = {
        "kernel": np.ones((4, 2), np.float32),
        "bias": np.zeros(2, np.float32),
        "vocabulary": np.array(["a", "b"]),
        "unknown_below": 0.0,
    }
    file = tmp_path / stored_head.HEAD_FILE
    np.savez(file, **arrays)
    assert stored_head.read(str(tmp_path)).vocabulary == ("a", "b")
    if change is None:
        file.write_bytes(b"no archive")
    else:
        np.savez(file, **{**arrays, **change})
    with pytest.raises(ResourceError, match=f"cannot be read .*{words}.*--from ImageTrainer"):
        stored_head.read(str(tmp_path))
