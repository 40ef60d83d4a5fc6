"""Tests of the choice of features for a solved head, without a bank and without Beam."""

from dataclasses import replace

import numpy as np
import pytest

from imgpipe.models.features.bank import BankRows, Regression
from imgpipe.models.head import feature_choice
from imgpipe.models.head.answers import Scores
from imgpipe.models.head.feature_choice import HeadInput, choose_blocks, choose_size
from imgpipe.models.head.solved_head import Judgement
from imgpipe.models.settings.settings import Settings
from tests.models.banks import rows_of
from tests.network_settings import network_settings

_SETTINGS = Settings()
_TOKENS = network_settings(features="tokens")
_LAST_MAP = HeadInput("average", 224)
_SEVERAL_MAPS = HeadInput("covariance", 224)


def _rows(signal: tuple[float, float], images: int = 120) -> BankRows:
    """Return rows of two blocks of four features, which tell the two classes this well."""
    random = np.random.default_rng(0)
    labels = np.arange(images) % 2
    features = random.normal(size=(images, 8))
    features[:, :4] += signal[0] * labels[:, None]
    features[:, 4:] += signal[1] * labels[:, None]
    return rows_of(features, labels, sizes=(4, 4))


@pytest.mark.parametrize(
    ("signal", "chosen"), [((0.3, 1.0), _SEVERAL_MAPS), ((1.0, 0.0), _LAST_MAP)]
)
def test_other_maps_are_read_where_they_make_the_head_better(signal, chosen):
    choice = choose_blocks(_rows(signal), 2, _SETTINGS, images=120)
    assert choice.chosen == chosen
    assert [head_input for head_input, _ in choice.tried] == [_LAST_MAP, _SEVERAL_MAPS]
    judged = dict(choice.tried)
    assert choice.scores is judged[chosen].scores


@pytest.mark.parametrize(
    ("signal", "features"),
    [((1.0, 0.0), "class_token"), ((0.0, 1.0), "average"), ((0.8, 0.8), "tokens")],
)
def test_a_head_reads_the_class_token_the_mean_of_the_patches_or_both(signal, features):
    choice = choose_blocks(_rows(signal, images=240), 2, _TOKENS, images=240)
    tried = [head_input.features for head_input, _ in choice.tried]
    assert tried == ["class_token", "average", "tokens"]
    assert choice.chosen == HeadInput(features, 224)


def test_of_many_images_other_maps_have_to_be_far_better(monkeypatch):
    monkeypatch.setattr(feature_choice, "_FAR_BETTER", 1.0)
    rows = _rows((0.3, 1.0))
    assert choose_blocks(rows, 2, _SETTINGS, feature_choice.MANY_IMAGES).chosen == _SEVERAL_MAPS
    assert choose_blocks(rows, 2, _SETTINGS, feature_choice.MANY_IMAGES + 1).chosen == _LAST_MAP


def test_larger_images_are_read_by_a_head_of_the_chosen_maps():
    choice = choose_blocks(_rows((1.1, 0.0)), 2, _SETTINGS, images=120)
    better = choose_size(choice, _rows((2.0, 0.0)), 288)
    assert better.chosen == HeadInput("average", 288)
    assert len(better.tried) == 3
    worse = choose_size(choice, _rows((0.0, 0.0)), 288)
    assert worse.chosen == _LAST_MAP


def test_larger_images_are_read_with_the_features_of_the_lowest_loss():
    """At the usual size, the gain of both blocks was not beyond chance."""
    choice = choose_blocks(_rows((1.0, 0.3)), 2, _SETTINGS, images=120)
    assert choice.chosen == _LAST_MAP
    larger = choose_size(choice, _rows((1.2, 1.2)), 288)
    assert larger.chosen == HeadInput("covariance", 288)
    many = choose_size(replace(choice, images=10**6), _rows((1.2, 1.2)), 288)
    assert many.chosen == larger.chosen, "which is better by more than a point"


def test_the_next_size_is_tried_while_mistakes_are_left_and_the_last_one_was_better():
    choice = choose_blocks(_rows((0.8, 0.0)), 2, _SETTINGS, images=120)
    assert choice.size_may_help
    better = choose_size(choice, _rows((1.1, 0.0)), 288)
    assert better.size_may_help
    largest = choose_size(better, _rows((2.2, 0.0)), 384)
    assert largest.chosen.image_size == 384
    assert not choose_size(choice, _rows((0.5, 0.0)), 288).size_may_help
    assert not choose_size(choice, _rows((4.0, 0.0)), 288).size_may_help


def test_with_too_few_images_to_judge_the_last_map_is_read():
    rows = _rows((1.0, 1.0), images=8)
    choice = choose_blocks(rows, 2, _SETTINGS, images=8)
    assert (choice.chosen, choice.tried) == (_LAST_MAP, ())
    assert not choice.size_may_help


def _judged_in_turn(monkeypatch, *scores: Scores) -> None:
    """Let heads have given scores, in the order in which they are judged."""
    waiting = list(scores)
    chosen = Regression("ridge_regression", 1.0)
    judge = "imgpipe.models.head.solved_head.HeadSolver.judge"
    monkeypatch.setattr(judge, lambda solver: Judgement(waiting.pop(0), chosen))


@pytest.mark.parametrize(
    ("gain", "more", "chosen"), [(0.02, 3, 224), (0.05, 0, 288), (0.05, -1, 224)]
)
def test_a_dearer_input_has_to_be_better_by_more_than_chance(monkeypatch, gain, more, chosen):
    """The gain of each of 100 images varies by 0.2, so that its standard error is 0.02."""
    before = np.full(100, 0.5, np.float32)
    after = before - np.float32(gain) + np.where(np.arange(100) % 2, 0.2, -0.2).astype(np.float32)
    right = np.arange(100) < 90
    _judged_in_turn(
        monkeypatch,
        Scores(before, right),
        Scores(before, right),
        Scores(after, np.arange(100) < 90 + more),
    )
    choice = choose_blocks(_rows((1.0, 0.0)), 2, _SETTINGS, images=120)
    assert choose_size(choice, _rows((1.0, 0.0)), 288).chosen.image_size == chosen


@pytest.mark.parametrize(
    ("images", "mistakes", "tried", "size_may_help"),
    [
        (200, 4, 1, False),
        (200, 5, 2, False),
        (200, 9, 2, False),
        (200, 10, 2, True),
        (1000, 15, 2, False),
        (1000, 16, 2, True),
    ],
)
def test_few_mistakes_and_a_good_head_end_the_choice(
    monkeypatch, images, mistakes, tried, size_may_help
):
    """A head is good enough with an accuracy of 0.985."""
    right = np.arange(images) >= mistakes
    _judged_in_turn(monkeypatch, *2 * [Scores(np.zeros(images, np.float32), right)])
    choice = choose_blocks(_rows((1.0, 0.0)), 2, _SETTINGS, images)
    assert len(choice.tried) == tried
    assert choice.size_may_help == size_may_help


@pytest.mark.parametrize(("signal", "promises"), [(3.0, True), (1.0, False), (0.3, False)])
def test_a_quarter_of_the_images_tells_whether_a_larger_size_may_be_better(signal, promises):
    rows = _rows((1.0, 0.0), images=400)
    choice = choose_blocks(rows, 2, _SETTINGS, images=400)
    part = feature_choice.first_part(rows)
    assert len(part) == 100
    larger = _rows((signal, 0.0), images=400)
    larger = larger.select(np.isin(larger.hashes, part.hashes))
    assert feature_choice.may_be_better(choice, part, larger, 288) is promises
    assert feature_choice.first_part(_rows((1.0, 0.0), images=190)) is None, "too few images"
