"""Tests of cross-validation: the folds, that no head has seen its test fold, and the scores."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from imgpipe.models.errors import DataRefused
from imgpipe.models.features.bank import BankRows
from imgpipe.models.head.answers import Answers
from imgpipe.models.settings import ModelSettings
from imgpipe.models.training import cross_validation
from imgpipe.models.training.cross_validation import cross_validate
from imgpipe.models.training.stages import Trained
from tests.models.banks import read_split

SETTINGS = ModelSettings(epochs=12, batch_size=32, learning_rate=0.01)


@pytest.fixture(scope="module")
def rows(write_bank, tmp_path_factory) -> BankRows:
    """Return rows of three classes: 60 training images with three views each, 18 for validation."""
    uri = write_bank(tmp_path_factory.mktemp("bank"), sizes={"validation": 6})
    return read_split(uri, ("train", "validation"), 3)


def _fake(monkeypatch) -> list[tuple[BankRows, BankRows, BankRows]]:
    """Replace the training, and return the list that receives (train, validation, held out).

    There is one entry for each fold.
    """
    seen = []

    def fitted_head(train, choosing, held, classes, settings):
        seen.append((train, choosing, held))
        logits = np.eye(classes, dtype=np.float32)[held.labels]
        history = {"epochs": [{}], "best_epoch": 1, "seconds": 0.5}
        return Trained(None, Answers(logits, held.labels, held.groups), history)

    monkeypatch.setattr(cross_validation, "fitted_head", fitted_head)
    return seen


@pytest.fixture(scope="module")
def judged(rows) -> dict[str, Any]:
    """Return the result of cross-validation with two folds."""
    return cross_validate(rows, 2, 3, SETTINGS)


def test_heads_classify_held_out_images_of_a_learnable_set_correctly(judged):
    found = judged
    assert found["folds"] == len(found["per_fold"]) == 2
    assert (found["images"], found["groups"]) == (78, 78)
    assert found["mean"] > 0.9
    assert found["min"] <= found["mean"] <= found["max"]
    shares = [fold["correct"] / fold["images"] for fold in found["per_fold"]]
    assert found["mean"] == pytest.approx(np.mean(shares))
    assert found["std"] == pytest.approx(np.std(shares, ddof=1))
    assert found["correct"] == sum(fold["correct"] for fold in found["per_fold"])


def test_heads_that_the_trainer_trains_by_epochs_are_not_solved_in_folds(rows, monkeypatch):
    used = []

    def fitted_head(*parts):
        used.append(parts[-1])
        raise DataRefused("enough")

    monkeypatch.setattr(cross_validation, "fitted_head", fitted_head)
    with pytest.raises(DataRefused, match="enough"):
        cross_validate(rows, 2, 3, dataclasses.replace(SETTINGS, strategy="mirrored"))
    assert [(one.solved, one.strategy) for one in used] == [(False, "none")]


@pytest.mark.parametrize("folds", [2, 5])
def test_every_image_is_held_out_once_and_is_not_trained_on(rows, monkeypatch, folds):
    seen = _fake(monkeypatch)
    cross_validate(rows, folds, 3, dataclasses.replace(SETTINGS, optimizer="adam"))
    judged = [digest for _, _, held in seen for digest in held.hashes]
    assert sorted(judged) == sorted(rows.hashes[rows.views == 0])
    for train, validation, held in seen:
        sides = [set(part.hashes) for part in (train, validation, held)]
        assert all(sides)
        assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
        assert set.union(*sides) == set(rows.hashes)
        assert set(held.views) == set(validation.views) == {0}
        assert set(train.views) == {0, 1, 2}
        assert train.clean.sum() > len(validation)


def _grouped(rows: BankRows, groups: dict[bytes, bytes]) -> BankRows:
    """Return the rows with the group of each image, which `groups` gives by the image's hash."""
    return dataclasses.replace(rows, groups=np.array([groups[bytes(h)] for h in rows.hashes]))


def test_images_of_a_group_are_in_the_same_fold(rows, monkeypatch):
    seen = _fake(monkeypatch)
    hashes = np.unique(rows.hashes)
    groups = {bytes(digest): hashes[i // 4 * 4] for i, digest in enumerate(hashes)}
    by_epochs = dataclasses.replace(SETTINGS, optimizer="adam")
    found = cross_validate(_grouped(rows, groups), 4, 3, by_epochs)
    assert found["groups"] == 20
    for parts in seen:
        sides = [{groups[bytes(digest)] for digest in part.hashes} for part in parts]
        assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]


def test_a_class_of_one_group_is_named_because_no_fold_can_learn_it(rows):
    groups = np.where(rows.labels == 1, b"film", np.asarray(rows.hashes))
    found = cross_validate(dataclasses.replace(rows, groups=groups), 4, 3, SETTINGS)
    images = int(((rows.labels == 1) & (rows.views == 0)).sum())
    assert found["unlearned"] == [[1, images]]
    assert found["correct"] <= found["images"] - images
    assert cross_validate(rows, 4, 3, SETTINGS)["unlearned"] == []


def test_fewer_images_than_folds_are_refused(rows):
    few = rows.select(np.isin(rows.hashes, np.unique(rows.hashes)[:4]))
    with pytest.raises(DataRefused, match=r"cross_validate = 4: .* Received: 4"):
        cross_validate(few, 4, 3, SETTINGS)


def test_a_group_of_nearly_all_images_is_refused(rows, monkeypatch):
    _fake(monkeypatch)
    by_epochs = dataclasses.replace(SETTINGS, optimizer="adam")
    hashes = np.unique(rows.hashes)
    groups = {bytes(digest): hashes[2] for digest in hashes[2:]}
    groups |= {bytes(digest): digest for digest in hashes[:2]}
    with pytest.raises(DataRefused, match="nothing else to train on"):
        cross_validate(_grouped(rows, groups), 2, 3, by_epochs)
