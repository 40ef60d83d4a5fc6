"""Answers are stored for the models that a run compares, and only where that is cheap."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from imgpipe.components.predictor.answers import MOST_CLASSES, Answers, forget_others, key_of
from imgpipe.components.storage.blob_store import SHARED

_ROWS = {key_of(b"one"): np.float32([0.25, 0.75]), key_of(b"two"): np.float32([1.0, 0.0])}


def _kept(place: str, model: str = "model", classes: int = 2) -> dict[bytes, list[float]]:
    """Return the answers that a store has for the images one, two and three."""
    answers = Answers(place, model)
    found = answers.get([key_of(b"one"), key_of(b"two"), key_of(b"three")], classes)
    answers.close()
    return {key: row.tolist() for key, row in found.items()}


def _keep(place: str, model: str = "model", rows: dict[bytes, np.ndarray] | None = None) -> None:
    """Store answers of a model; by default those of the images one and two."""
    answers = Answers(place, model)
    answers.put(_ROWS if rows is None else rows)
    answers.close()


def test_stored_answers_are_returned_for_their_own_model_only(tmp_path: Path):
    _keep(str(tmp_path))
    assert _kept(str(tmp_path)) == {key: row.tolist() for key, row in _ROWS.items()}
    assert _kept(str(tmp_path), "another model") == {}


def test_an_answer_for_another_number_of_classes_is_not_used(tmp_path: Path):
    _keep(str(tmp_path))
    assert _kept(str(tmp_path), classes=3) == {}


@pytest.mark.parametrize(("shared", "model"), [("", ""), (SHARED, "model")])
def test_no_answer_is_stored_without_a_model_or_on_several_hosts(tmp_path: Path, shared, model):
    place = f"{shared}{tmp_path}"
    _keep(place, model)
    forget_others(place, [])
    assert _kept(place, model) == {}
    assert not list(tmp_path.iterdir())


def test_the_answers_of_a_model_with_many_classes_are_not_stored(tmp_path: Path):
    _keep(str(tmp_path), rows={key_of(b"one"): np.zeros(MOST_CLASSES + 1, np.float32)})
    assert _kept(str(tmp_path), classes=MOST_CLASSES + 1) == {}


def test_old_answers_of_other_models_are_removed_and_other_stores_are_not(tmp_path: Path):
    for model in ("candidate", "baseline", "older"):
        _keep(str(tmp_path), model)
    (tmp_path / "features.sqlite").touch()
    eight_days_ago = time.time() - 8 * 24 * 3600
    for file in tmp_path.iterdir():
        os.utime(file, (eight_days_ago, eight_days_ago))
    _keep(str(tmp_path), "of another folder")
    forget_others(str(tmp_path), ["candidate", "baseline"])
    for model in ("candidate", "baseline", "of another folder"):
        assert len(_kept(str(tmp_path), model)) == 2
    assert _kept(str(tmp_path), "older") == {}
    assert (tmp_path / "features.sqlite").exists()
