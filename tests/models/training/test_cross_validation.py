"""Tests of cross-validation: the folds, that no head has seen its test fold, and the scores."""

from __future__ import annotations

import dataclasses
import hashlib
import tracemalloc

import numpy as np
import pytest

from imgpipe.models.errors import DataRefused
from imgpipe.models.features import row_file
from imgpipe.models.features.bank import BankRows, open_split
from imgpipe.models.features.folds import of_rows
from imgpipe.models.features.hash_column import HashColumn
from imgpipe.models.settings import ModelSettings
from imgpipe.models.training import cross_validation
from imgpipe.models.training.cross_validation import CrossValidation, assign, cross_validate
from tests.models.banks import read_split

SETTINGS = ModelSettings(epochs=12, batch_size=32, learning_rate=0.01)


@pytest.fixture(scope="module")
def rows(write_bank, tmp_path_factory) -> BankRows:
    """Return rows of three classes: 60 training images with three views each, 18 for validation."""
    uri = write_bank(tmp_path_factory.mktemp("bank"), sizes={"validation": 6})
    with open_split(uri, ("train", "validation"), 3) as found:
        return found.select(np.ones(len(found), np.bool_))


def _fake(monkeypatch) -> list[tuple[BankRows, BankRows, BankRows]]:
    """Replace the training, and return the list that receives (train, validation, held out).

    There is one entry for each fold.
    """
    seen: list[list[BankRows]] = []

    class Fit:
        head, epochs, best_epoch, seconds = None, [{}], 1, 0.5

    def fit_head(train, validation, classes, settings, learning_curve):
        seen.append([train, validation])
        return Fit()

    def predicted(head, held):
        seen[-1].append(held)
        return held.labels

    monkeypatch.setattr(cross_validation, "fit_head", fit_head)
    monkeypatch.setattr(cross_validation, "predicted", predicted)
    return seen


@pytest.fixture(scope="module")
def judged(rows) -> CrossValidation:
    """Return the result of cross-validation with two folds."""
    return cross_validate(rows, 2, 3, SETTINGS)


def test_heads_classify_held_out_images_of_a_learnable_set_correctly(judged):
    found = judged.summary()
    assert found["folds"] == len(found["per_fold"]) == 2
    assert (found["images"], found["groups"]) == (78, 78)
    assert found["mean"] > 0.9
    assert found["min"] <= found["mean"] <= found["max"]
    shares = [fold["correct"] / fold["images"] for fold in found["per_fold"]]
    assert found["mean"] == pytest.approx(np.mean(shares))
    assert found["std"] == pytest.approx(np.std(shares, ddof=1))
    assert found["correct"] == sum(fold["correct"] for fold in found["per_fold"])


def test_random_labels_are_not_learnt(rows):
    """If the folds leaked, random labels would be predicted better than by chance."""
    clean = {digest: number for number, digest in enumerate(np.unique(rows.hashes))}
    drawn = np.random.default_rng(3).integers(0, 3, len(clean))
    labels = np.array([drawn[clean[digest]] for digest in rows.hashes])
    found = cross_validate(dataclasses.replace(rows, labels=labels), 2, 3, SETTINGS).summary()
    assert found["mean"] < 0.6


def test_the_same_rows_give_the_same_results(rows, judged):
    again = cross_validate(rows, 2, 3, SETTINGS)
    figures = [[(f.correct, f.best_epoch) for f in found.folds] for found in (judged, again)]
    assert figures[0] == figures[1]


def test_solved_heads_are_trained_on_all_other_folds(rows, monkeypatch):
    seen = _fake(monkeypatch)
    assert SETTINGS.solved
    found = cross_validate(rows, 4, 3, SETTINGS)
    for fold, (train, _, held) in zip(found.folds, seen, strict=True):
        assert not set(train.hashes) & set(held.hashes)
        assert set(train.hashes) | set(held.hashes) == set(rows.hashes)
        assert fold.trained_on == len(set(train.hashes))


def test_heads_that_the_trainer_trains_by_epochs_are_not_solved_in_folds(rows, monkeypatch):
    used = []
    monkeypatch.setattr(cross_validation, "_fold", lambda *parts: used.append(parts[-1]))
    mirrored = dataclasses.replace(SETTINGS, strategy="mirrored")
    cross_validate(rows, 2, 3, mirrored)
    assert not mirrored.solved
    assert [(one.solved, one.strategy) for one in used] == [(False, "none")] * 2


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
        assert len(train.up_to(0)) > len(validation)


def _grouped(rows: BankRows, groups: dict[bytes, bytes]) -> BankRows:
    """Return the rows with the group of each image, which `groups` gives by the image's hash."""
    return dataclasses.replace(rows, groups=np.array([groups[bytes(h)] for h in rows.hashes]))


def test_images_of_a_group_are_in_the_same_fold(rows, monkeypatch):
    seen = _fake(monkeypatch)
    hashes = np.unique(rows.hashes)
    groups = {bytes(digest): hashes[i // 4 * 4] for i, digest in enumerate(hashes)}
    found = cross_validate(
        _grouped(rows, groups), 4, 3, dataclasses.replace(SETTINGS, optimizer="adam")
    )
    assert found.groups == 20
    for parts in seen:
        sides = [{groups[bytes(digest)] for digest in part.hashes} for part in parts]
        assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]


def test_a_class_of_one_group_is_named_because_no_fold_can_learn_it(rows):
    groups = np.where(rows.labels == 1, b"film", np.asarray(rows.hashes))
    found = cross_validate(dataclasses.replace(rows, groups=groups), 4, 3, SETTINGS).summary()
    images = int(((rows.labels == 1) & (rows.views == 0)).sum())
    assert found["unlearned"] == [[1, images]]
    assert found["correct"] <= found["images"] - images
    assert cross_validate(rows, 4, 3, SETTINGS).summary()["unlearned"] == []


def test_classes_are_spread_evenly_over_folds():
    labels = np.repeat([0, 1, 2], [50, 20, 5])
    sets = np.array([f"image {i}" for i in range(75)])
    fold_of = assign(labels, sets, 5)
    table = np.zeros((5, 3), int)
    for name, label in zip(sets, labels, strict=True):
        table[fold_of[name], label] += 1
    assert table.tolist() == [[10, 4, 1]] * 5


def test_the_folds_do_not_depend_on_the_order_of_the_images():
    labels, sets = np.arange(40) % 3, np.array([f"image {i}" for i in range(40)])
    order = np.random.default_rng(0).permutation(40)
    assert assign(labels, sets, 4) == assign(labels[order], sets[order], 4)


def test_the_folds_of_rows_need_no_names_of_all_rows():
    """The names of 60,000 rows would take 15 MB. The folds are fixed, as other results are."""
    names = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(20)]
    sets = HashColumn.of(np.array(names, "S"))[np.arange(60) // 3]
    labels, repeated = np.arange(60) % 4, sets[np.repeat(np.arange(60), 1000)]
    tracemalloc.start()
    try:
        found = of_rows(repeated, assign(labels, sets, 5))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "".join(map(str, found[::3000])) == "31030422403023141241"
    assert peak < 4e6


def test_many_classes_and_sets_need_no_table_of_both():
    """A table of numbers for each set and each class would take 72 MB."""
    labels = np.arange(3000)
    sets = np.array([f"image {i}" for i in labels])
    tracemalloc.start()
    try:
        fold_of = assign(labels, sets, 5)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8e6
    assert np.bincount(list(fold_of.values())).tolist() == [600] * 5


def test_a_large_group_does_not_leave_a_fold_empty():
    sets = np.array(["film"] * 30 + [f"image {i}" for i in range(6)])
    fold_of = assign(np.zeros(36, int), sets, 3)
    assert {fold_of[name] for name in sets} == {0, 1, 2}
    assert sum(fold == fold_of["film"] for fold in fold_of.values()) == 1


def test_fewer_images_than_folds_are_refused(rows):
    few = rows.select(np.isin(rows.hashes, np.unique(rows.hashes)[:4]))
    with pytest.raises(DataRefused, match=r"cross_validate = 4: .* Received: 4"):
        cross_validate(few, 4, 3, SETTINGS)


def test_a_group_of_nearly_all_images_is_refused(rows, monkeypatch):
    _fake(monkeypatch)
    hashes = np.unique(rows.hashes)
    groups = {bytes(digest): hashes[2] for digest in hashes[2:]}
    groups |= {bytes(digest): digest for digest in hashes[:2]}
    with pytest.raises(DataRefused, match="nothing else to train on"):
        cross_validate(_grouped(rows, groups), 2, 3, SETTINGS)


def test_folds_of_features_in_a_file_are_those_of_features_in_memory(
    write_bank, tmp_path, monkeypatch
):
    uri = write_bank(tmp_path, sizes={"validation": 6})
    splits = ("train", "validation")
    settings = dataclasses.replace(SETTINGS, epochs=3)
    found = []
    for limit in (row_file.IN_MEMORY, 0):
        monkeypatch.setattr(row_file, "IN_MEMORY", limit)
        with open_split(uri, splits, 3) as rows:
            assert (np.asarray(rows.features) == read_split(uri, splits, 3).features).all()
            held = rows.select(rows.views == 0).select(np.arange(78) % 3 == 0)
            in_file = isinstance(held.features, row_file.Selection)
            assert in_file == (limit == 0)
            for fold in cross_validate(rows, 2, 3, settings).folds:
                found.append(dataclasses.replace(fold, seconds=0))
    assert found[:2] == found[2:]
