"""Tests of the rule for which of two networks is better."""

from dataclasses import replace

import numpy as np
import pytest

from imgpipe.models.head.answers import Scores, better, gains
from imgpipe.models.head.certainty import CHANCE


def _drawn(draw: np.random.Generator, films: int, frames: int) -> Scores:
    """Return the scores of a network whose answers for the frames of a film are alike."""
    losses = np.repeat(draw.gamma(0.2, size=films), frames).astype(np.float32)
    groups = np.repeat([b"%d" % film for film in range(films)], frames)
    return Scores(losses, losses < 0.7, groups)


@pytest.mark.parametrize(("films", "frames"), [(400, 1), (40, 10)])
@pytest.mark.parametrize("candidates", [1, 3])
def test_one_of_equally_good_networks_is_rarely_taken_for_better(films, frames, candidates):
    """The veto of the accuracy makes it rarer than in one of twenty cases."""
    draw = np.random.default_rng(0)
    taken = 0
    for _ in range(400):
        old = _drawn(draw, films, frames)
        networks = (_drawn(draw, films, frames) for _ in range(candidates))
        taken += any(better(new, old, CHANCE / candidates) for new in networks)
    assert 0.01 < taken / 400 < 0.07


def test_a_better_network_is_found_by_its_loss_where_the_accuracies_are_equal():
    old = _drawn(np.random.default_rng(0), 400, 1)
    assert better(replace(old, losses=0.9 * old.losses), old, CHANCE / 3)
    assert not better(old, old)


def test_a_lower_accuracy_is_a_veto():
    old = _drawn(np.random.default_rng(0), 400, 1)
    right = old.right.copy()
    right[np.flatnonzero(right)[0]] = False
    assert not better(Scores(0.5 * old.losses, right, old.groups), old)


def test_the_gain_in_one_group_says_nothing_about_others():
    losses = np.full(50, 0.5, np.float32)
    film = np.full(50, b"film")
    right = np.ones(50, np.bool_)
    assert not better(Scores(0.1 * losses, right, film), Scores(losses, right, film))


def test_a_few_families_tell_a_gain_only_with_those_of_a_fold():
    pairs = []
    for films in (2, 30):
        old = _drawn(np.random.default_rng(films), films, 10)
        pairs.append((replace(old, losses=old.losses * 0.8), old))
    assert not better(*pairs[0])
    new, old = (Scores.joined(scores) for scores in zip(*pairs, strict=True))
    assert len(new.losses) == len(new.right) == len(new.groups) == 320
    assert better(new, old)
    assert Scores.joined([Scores(old.losses, old.right), old]).groups is None


def test_a_share_of_the_images_shows_whether_all_of_them_could_be_certain():
    """A gain of 1.2 standard errors on a third of the images would be one of 2.1 on all."""
    losses = np.full(100, 0.5)
    differences = np.linspace(-1, 1, 100)
    differences += 1.2 * differences.std(ddof=1) / 10
    right = np.ones(100, np.bool_)
    new = Scores(losses - differences, right)
    old = Scores(losses, right)
    assert not gains(new, old)
    assert gains(new, old, share=1 / 3)
    assert not gains(old, new, share=1 / 3)
