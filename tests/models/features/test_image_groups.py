"""Tests of groups that no fold may divide: those of the source and those of near-duplicates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from imgpipe.models import feature_names as names
from imgpipe.models.features.bank import read_rows
from imgpipe.models.features.image_groups import find_groups
from imgpipe.models.head.solved_head import judge, solve
from imgpipe.models.settings import ModelSettings
from tests.models.banks import read_split

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


def test_groups_and_near_duplicates_that_share_an_image_are_merged():
    source = dict.fromkeys("ab", "ann")
    assert _groups(["bc", "fg", "h"], 5, source) == ({"abc", "fg"}, 0)


def test_groups_that_are_connected_over_several_steps_are_merged():
    source = {"i": "1", "h": "1", "g": "2", "a": "2"}
    assert _groups(["hg", "ij"], 5, source) == ({"aghij"}, 0)


def test_a_chain_of_near_duplicates_longer_than_a_fold_is_divided():
    assert _groups(["abcdef", "gh"], 5) == ({"gh"}, 6)


def test_a_group_of_the_source_is_never_divided():
    assert _groups(["fg"], 3, dict.fromkeys("abcdef", "film")) == ({"abcdef"}, 2)


def test_near_duplicates_inside_a_group_of_the_source_stay_together():
    assert _groups(["abcde"], 3, dict.fromkeys("abcdef", "film")) == ({"abcdef"}, 0)


def test_groups_do_not_depend_on_the_order():
    near, source = ["ae", "ij"], {"c": "1", "a": "1", "e": "2", "d": "2"}
    assert _groups(near[::-1], 5, source, ALL[::-1]) == _groups(near, 5, source)


def test_no_rows_have_no_groups():
    found, separated = find_groups(ALL[:0], ALL[:0], np.empty(0, np.int64), 0)
    assert len(found) == separated == 0


@pytest.fixture
def films(write_records, tmp_path: Path) -> str:
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
            rows.append(
                {
                    names.FEATURES: point.astype("<f2").tobytes(),
                    names.LABEL_INDEX: label,
                    names.VIEW: 0,
                    names.IMAGE_HASH: f"{frame * 30 + film:064x}".encode(),
                    names.GROUP: f"film {film}".encode() if film < 15 else b"",
                    names.NEAR_GROUP: 0 if film < 15 else 1 + film,
                }
            )
    write_records(tmp_path / "Split-train" / "data_tfrecord-00000-of-00001", rows)
    (tmp_path / "bank.json").write_text('{"dim": 16}')
    return str(tmp_path)


def test_rows_of_a_bank_have_their_groups(films):
    rows = read_split(films, names.TRAIN, 2)
    assert len(np.unique(rows.groups)) == 30
    assert rows.separated == 0
    numbers = [int(digest, 16) % 30 for digest in rows.hashes]
    assert [int(name, 16) % 30 for name in rows.groups] == numbers
    some = rows.select(rows.labels == 1)
    assert len(some.groups) == len(some) == 120


def test_random_labels_of_films_are_not_learnt_across_folds(films):
    """If folds divided films, nearly all frames would be classified correctly."""
    rows = read_split(films, names.TRAIN, 2)
    settings = ModelSettings()
    divided = type(rows)(rows.features, rows.labels, rows.views, rows.hashes)
    assert judge(divided, 2, settings).best.accuracy > 0.9
    assert judge(rows, 2, settings).best.accuracy < 0.7
    facts = solve(rows, 2, settings).facts
    assert facts["accuracy"] < 0.7
    assert facts["standard_error"] > 0.05, "30 films are not 240 independent images"
    assert all(point["accuracy"] < 0.7 for point in facts["learning_curve"])


def test_near_duplicates_are_divided_if_they_do_not_fit_into_a_fold(films):
    rows = read_rows(films, names.TRAIN, 2, count=40)
    assert rows.separated == 15 * 8
    assert len(np.unique(rows.groups)) == 15 + 15 * 8


def test_a_class_of_a_single_group_can_be_solved(films):
    rows = read_split(films, names.TRAIN, 2)
    labels = np.where(rows.groups == rows.groups[0], 2, rows.labels)
    lonely = type(rows)(rows.features, labels, rows.views, rows.hashes, rows.groups)
    facts = solve(lonely, 3, ModelSettings(balance="class_weights")).facts
    assert 0 < facts["accuracy"] < 1
