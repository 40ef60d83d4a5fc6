"""Tests of folds, and of groups that none may divide: of the source, and of near-duplicates."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imgpipe.models import names
from imgpipe.models.features.bank import read_rows
from imgpipe.models.features.folds import assign, find_groups
from imgpipe.models.head.solved_head import HeadSolver
from imgpipe.models.settings.model import ModelSettings
from tests.models.banks import bank_row, write_examples, write_facts

ALL = np.array([letter.encode() for letter in "abcdefghij"])


def _groups(near, largest, source=None, hashes=ALL) -> tuple[set[str], int]:
    """Return the groups of several images, as their letters, and how many images were separated."""
    sources = np.array([(source or {}).get(h.decode(), "").encode() for h in hashes])
    numbers = {letter: number for number, group in enumerate(near, 1) for letter in group}
    near = np.array([numbers.get(h.decode(), 0) for h in hashes], np.int64)
    found, separated = find_groups(hashes, sources, near, largest)
    sets: dict[bytes, str] = {}
    for digest, name in sorted(zip(hashes.tolist(), found.tolist(), strict=True)):
        sets[name] = sets.get(name, "") + digest.decode()
    assert all(members[0] == name.decode() for name, members in sets.items())
    return {members for members in sets.values() if len(members) > 1}, separated


@pytest.mark.parametrize(
    ("near", "source", "groups", "separated"),
    [
        (["bc", "fg", "h"], dict.fromkeys("ab", "ann"), {"abc", "fg"}, 0),
        (["hg", "ij"], {"i": "1", "h": "1", "g": "2", "a": "2"}, {"aghij"}, 0),
        (["abcdef", "gh"], {}, {"gh"}, 6),  # a chain longer than a fold
        (["ag"], dict.fromkeys("abcdef", "film"), {"abcdef"}, 2),
        (["abcde"], dict.fromkeys("abcdef", "film"), {"abcdef"}, 0),
    ],
)
def test_groups_are_merged_up_to_a_fold_and_never_divided(near, source, groups, separated) -> None:
    assert _groups(near, 5, source) == (groups, separated)


def test_groups_do_not_depend_on_the_order():
    near, source = ["ae", "ij"], {"c": "1", "a": "1", "e": "2", "d": "2"}
    assert _groups(near[::-1], 5, source, ALL[::-1]) == _groups(near, 5, source)


@pytest.fixture
def films(tmp_path: Path) -> str:
    """Return the path of a bank of 30 films with 8 frames each.

    The frames of a film are alike, and the label of a film is random. The source gives the groups
    of the first 15 films; those of the others are near-duplicates.
    """
    draw = np.random.default_rng(5)
    rows = []
    for film in range(30):
        centre, label = draw.normal(size=16), film % 2
        for frame in range(8):
            point = centre + 0.05 * draw.normal(size=16)
            row = bank_row(f"{frame * 30 + film:064x}", label, point)
            group, near = (f"film {film}", 0) if film < 15 else ("", 1 + film)
            rows.append((names.TRAIN, row | {names.GROUP: group, names.NEAR_GROUP: near}))
    write_facts(write_examples(tmp_path, rows), [16])
    return str(tmp_path)


def test_rows_of_a_bank_have_their_groups(films):
    rows = read_rows(films, names.TRAIN, 2)
    assert len(np.unique(rows.groups)) == 30
    assert rows.separated == 0
    numbers = [int(digest, 16) % 30 for digest in rows.hashes]
    assert [int(name, 16) % 30 for name in rows.groups] == numbers
    some = rows.select(rows.labels == 1)
    assert len(some.groups) == len(some) == 120


def test_random_labels_of_films_are_not_learnt_across_folds(films):
    """If folds divided films, nearly all frames would be classified correctly."""
    rows = read_rows(films, names.TRAIN, 2)
    settings = ModelSettings()
    divided = replace(rows, groups=rows.hashes)
    assert HeadSolver(divided, 2, settings).judge().scores.accuracy > 0.9
    assert HeadSolver(rows, 2, settings).judge().scores.accuracy < 0.7
    facts = HeadSolver(rows, 2, settings).solve().solution
    assert facts["accuracy"] < 0.7
    assert facts["standard_error"] > 0.05, "30 films are not 240 independent images"
    assert all(point["accuracy"] < 0.7 for point in facts["learning_curve"])


def test_near_duplicates_are_divided_if_they_do_not_fit_into_a_fold(films):
    rows = read_rows(films, names.TRAIN, 2, count=40)
    assert rows.separated == 15 * 8
    assert len(np.unique(rows.groups)) == 15 + 15 * 8


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
