"""Tests of folds, and of families, which none may divide."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imgpipe.models import names
from imgpipe.models.features.bank import read_rows
from imgpipe.models.features.folds import assign
from imgpipe.models.head.solved_head import HeadSolver
from imgpipe.models.settings.settings import Settings
from tests.models.banks import bank_row, write_examples, write_facts


@pytest.fixture
def films(tmp_path: Path) -> str:
    """Return the path of a bank of 30 films with 8 frames each.

    The frames of a film are alike, and the label of a film is random. Each film is a family, which
    has the name of its first frame.
    """
    draw = np.random.default_rng(5)
    rows = []
    for film in range(30):
        centre, label = draw.normal(size=16), film % 2
        for frame in range(8):
            point = centre + 0.05 * draw.normal(size=16)
            row = bank_row(f"{frame * 30 + film:064x}", label, point)
            rows.append((names.TRAIN, row | {names.FAMILY: f"{film:064x}"}))
    write_facts(write_examples(tmp_path, rows), [16])
    return str(tmp_path)


def test_rows_of_a_bank_have_their_families(films):
    rows = read_rows(films, names.TRAIN, 2)
    assert len(np.unique(rows.groups)) == 30
    numbers = [int(digest, 16) % 30 for digest in rows.hashes]
    assert [int(name, 16) % 30 for name in rows.groups] == numbers
    some = rows.select(rows.labels == 1)
    assert len(some.groups) == len(some) == 120


def test_random_labels_of_films_are_not_learnt_across_folds(films):
    """If folds divided films, nearly all frames would be classified correctly."""
    rows = read_rows(films, names.TRAIN, 2)
    settings = Settings()
    divided = replace(rows, groups=rows.hashes)
    assert HeadSolver(divided, 2, settings).judge().scores.accuracy > 0.9
    assert HeadSolver(rows, 2, settings).judge().scores.accuracy < 0.7
    facts = HeadSolver(rows, 2, settings).solve().solution
    assert facts["accuracy"] < 0.7
    assert facts["standard_error"] > 0.05, "30 films are not 240 independent images"
    assert all(point["accuracy"] < 0.7 for point in facts["learning_curve"])


def test_classes_are_spread_evenly_over_folds():
    labels = np.repeat([0, 1, 2], [50, 20, 5])
    sets = np.array([b"image %d" % i for i in range(75)])
    table = np.zeros((5, 3), int)
    np.add.at(table, (assign(labels, sets, 5), labels), 1)
    assert table.tolist() == [[10, 4, 1]] * 5


def test_the_folds_are_fixed_as_other_results_are():
    names = [hashlib.sha256(str(number).encode()).hexdigest().encode() for number in range(20)]
    sets = np.repeat(np.array(names), 3)
    found = assign(np.arange(60) % 4, sets, 5)
    assert "".join(map(str, found[::3])) == "31030422403023141241"
    views = np.arange(120) % 2
    doubled = assign(np.repeat(np.arange(60) % 4, 2), np.repeat(sets, 2), 5, views == 0)
    np.testing.assert_array_equal(doubled[::2], found)


def test_a_large_group_does_not_leave_a_fold_empty():
    sets = np.array([b"film"] * 30 + [b"image %d" % i for i in range(6)])
    fold = assign(np.zeros(36, int), sets, 3)
    assert set(fold) == {0, 1, 2}
    assert (fold == fold[0]).sum() == 30
