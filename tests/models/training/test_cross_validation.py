"""Tests of cross-validation: the folds, that no head has seen its test fold, and the scores."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest

from imgpipe.models.errors import DataRefused
from imgpipe.models.features.bank import BankRows
from imgpipe.models.head.solved_head import out_of_fold
from imgpipe.models.settings import ModelSettings
from imgpipe.models.training.cross_validation import cross_validate
from tests.models.banks import read_split

SETTINGS = ModelSettings()


@pytest.fixture(scope="module")
def rows(write_bank, tmp_path_factory) -> BankRows:
    """Return rows of three classes: 60 training images with three views each, 18 for validation."""
    uri = write_bank(tmp_path_factory.mktemp("bank"), sizes={"validation": 6})
    return read_split(uri, ("train", "validation"), 3)


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


@pytest.mark.parametrize("folds", [2, 5])
def test_every_image_is_held_out_once_with_its_group(rows, folds):
    hashes = np.unique(rows.hashes)
    group_of = {bytes(digest): hashes[i // 4 * 4] for i, digest in enumerate(hashes)}
    groups = np.array([group_of[bytes(digest)] for digest in rows.hashes])
    found = out_of_fold(dataclasses.replace(rows, groups=groups), 3, SETTINGS, 1.0, folds)
    assert len(found) == folds
    judged = [set(answers.hashes.tolist()) for answers, _ in found]
    assert sorted(itertools.chain(*judged)) == sorted(hashes)
    parts = [set(answers.groups.tolist()) for answers, _ in found]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 20
    assert [len(part) + learned for part, (_, learned) in zip(judged, found, strict=True)] == (
        [len(hashes)] * folds
    )


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
