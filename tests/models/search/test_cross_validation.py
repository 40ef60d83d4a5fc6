"""Tests of cross-validation: the folds, that no head has seen its test fold, and the scores."""

import dataclasses
import itertools
import json
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from imgpipe.models.errors import DataRefused
from imgpipe.models.features.bank import BANK_FILE, BankRows, Regression, read_facts, read_rows
from imgpipe.models.head.answers import Answers
from imgpipe.models.head.solved_head import HeadSolver
from imgpipe.models.search import judging
from imgpipe.models.search.judging import fold_parts, head_from_both_splits, network_folds
from imgpipe.models.settings.section import AUTOMATIC
from imgpipe.models.settings.settings import Settings
from imgpipe.models.training.history import Folds, summary
from tests.models import noise_data
from tests.models.banks import write_bank
from tests.models.noise_data import TRAIN, VALIDATION

SETTINGS = Settings()
_RIDGE = Regression("ridge_regression", 1.0)


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> BankRows:
    """Return rows of three classes: 60 training images with three views each, 18 for validation."""
    uri = write_bank(tmp_path_factory.mktemp("bank"), sizes={"validation": 6})
    return read_rows(uri, ("train", "validation"), 3)


def _judged(rows: BankRows, folds: int) -> Folds:
    answers = HeadSolver(rows, 3, SETTINGS).out_of_fold(_RIDGE, folds)
    return summary(answers, automatic=True, validation_images=0)


def test_heads_classify_held_out_images_of_a_learnable_set_correctly(rows):
    found = _judged(rows, 2)
    assert found["folds"] == len(found["per_fold"]) == 2
    assert (found["images"], found["groups"]) == (78, 78)
    assert found["correct"] / found["images"] > 0.9
    assert found["min"] <= found["correct"] / found["images"] <= found["max"]
    shares = [fold["correct"] / fold["images"] for fold in found["per_fold"]]
    assert found["std"] == pytest.approx(np.std(shares, ddof=1))
    assert found["correct"] == sum(fold["correct"] for fold in found["per_fold"])


@pytest.mark.parametrize("folds", [2, 5])
def test_every_image_is_held_out_once_with_its_group(rows, folds):
    hashes = np.unique(rows.hashes)
    group_of = {bytes(digest): hashes[i // 4 * 4] for i, digest in enumerate(hashes)}
    groups = np.array([group_of[bytes(digest)] for digest in rows.hashes])
    grouped = dataclasses.replace(rows, groups=groups)
    found = HeadSolver(grouped, 3, SETTINGS).out_of_fold(_RIDGE, folds)
    assert len(found) == folds
    judged = [set(answers.hashes.tolist()) for answers in found]
    assert sorted(itertools.chain(*judged)) == sorted(hashes)
    parts = [set(answers.groups.tolist()) for answers in found]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 20
    assert [len(answers) + answers.trained_on for answers in found] == [len(hashes)] * folds


def test_a_class_of_one_group_is_named_because_no_fold_can_learn_it(rows):
    groups = np.where(rows.labels == 1, b"film", np.asarray(rows.hashes))
    found = _judged(dataclasses.replace(rows, groups=groups), 4)
    images = int(((rows.labels == 1) & (rows.views == 0)).sum())
    assert found["unlearned"] == [[1, images]]
    assert found["correct"] <= found["images"] - images
    assert _judged(rows, 4)["unlearned"] == []


def test_folds_decide_for_few_images_or_where_a_setting_asks(noise_images, noise_bank, monkeypatch):
    given = noise_data.inputs(noise_images, noise_bank, noise_data.SETTINGS)

    def judged(folds: int) -> dict[str, Any]:
        found = head_from_both_splits(dataclasses.replace(given, folds=folds))
        return found.history if found else {}

    assert not judged(0)
    found = judged(AUTOMATIC)
    assert found["learned"] == {"train": TRAIN, "validation": VALIDATION}
    folds = found["cross_validation"]
    assert (folds["folds"], folds["automatic"], folds["validation_images"]) == (5, True, 24)
    assert judged(3)["cross_validation"]["folds"] == 3
    with pytest.raises(DataRefused, match=r"= 40: expected at least 80 images.* Received: 60"):
        judged(40)
    monkeypatch.setattr(judging, "FEW_IMAGES", VALIDATION)
    assert judged(AUTOMATIC)["learned"] == found["learned"], "few images to learn from"
    assert judged(3)["cross_validation"]["automatic"] is False
    monkeypatch.setattr(judging, "MOST_OF_HEADS", TRAIN + VALIDATION - 1)
    assert not judged(AUTOMATIC)


def test_enough_images_of_a_validation_that_the_source_names_judge_and_teach_nothing(
    noise_images, noise_bank, monkeypatch, tmp_path
):
    shutil.copytree(noise_bank, tmp_path / "bank")
    facts = read_facts(noise_bank)
    facts["validation_drawn"] = False
    (tmp_path / "bank" / BANK_FILE).write_text(json.dumps(facts))
    given = noise_data.inputs(noise_images, str(tmp_path / "bank"), noise_data.SETTINGS)
    given = dataclasses.replace(given, folds=AUTOMATIC)
    found = head_from_both_splits(given)
    assert found is not None and "validation" in found.history["learned"], "few of them teach"
    monkeypatch.setattr(judging, "FEW_IMAGES", VALIDATION)
    assert head_from_both_splits(given) is None


def test_validation_images_of_families_that_train_has_do_not_count(tmp_path, monkeypatch):
    monkeypatch.setattr(judging, "MOST_OF_HEADS", 0)
    monkeypatch.setattr(judging, "FEW_IMAGES", VALIDATION)

    def judged(group_of: Callable[[str, int, int], bytes]) -> bool:
        inputs = noise_data.grouped(tmp_path, group_of)
        return head_from_both_splits(dataclasses.replace(inputs, folds=AUTOMATIC)) is not None

    assert not judged(lambda split, i, label: b"")
    assert judged(noise_data.half_in_train), "folds judge, in which families stay together"


def test_networks_train_on_the_other_images_alone(noise_images, noise_bank):
    every = fold_parts(noise_data.inputs(noise_images, noise_bank, noise_data.SETTINGS), 3)
    held_out = np.concatenate([part.held_out.hashes for part in every])
    assert len(every) == 3
    assert len(set(held_out)) == len(held_out) == TRAIN + VALIDATION
    for part in every:
        assert set(part.training.hashes) == set(held_out) - set(part.held_out.hashes)
        assert part.best.answers.labels.tolist() == part.held_out.labels.tolist()


def test_a_group_is_in_one_fold(tmp_path):
    def folds_of(film):
        def group_of(split: str, i: int, label: int) -> bytes:
            return b"film %d" % film(i)

        return fold_parts(noise_data.grouped(tmp_path, group_of), 3)

    found = folds_of(lambda i: i // 3)  # films of both splits
    assert sum(len(part.held_out.labels) for part in found) == TRAIN + VALIDATION
    films = [set(part.best.answers.groups.tolist()) for part in found]
    assert folds_of(lambda i: i % 5) == [], "too few groups"
    assert sum(map(len, films)) == len(set().union(*films)) == 12


def test_a_class_in_one_fold_decides_nothing(tmp_path):
    """All images of class 2 are of one film: no network can learn it and be judged on it."""

    def group_of(split: str, i: int, label: int) -> bytes:
        return b"film" if label == 2 else f"{split} {i}".encode()

    found = fold_parts(noise_data.grouped(tmp_path, group_of), 3)
    answers = [part.best.answers for part in found]
    assert sorted((one.labels[~one.learnable] == 2).sum() for one in answers) == [0, 0, 12 + 8]
    every = Answers.joined(answers)
    scores = every.scores()
    assert not scores.right[~every.learnable].any()
    assert not scores.losses[~every.learnable].any()
    assert summary(answers, True, 0)["unlearned"] == [[2, 20]]


def test_folds_judge_if_there_are_few_images():
    assert network_folds(images=2000, independent=199) == 3
    assert network_folds(images=2001, independent=199) == 0
    assert network_folds(images=500, independent=200) == 0
