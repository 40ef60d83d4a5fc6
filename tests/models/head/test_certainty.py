"""Intervals and comparisons hold where images come in families."""

import math
from random import Random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from imgpipe.models.head.certainty import interval, paired_answers, wilson

FAMILIES = {
    "200 single images": [1] * 200,
    "20 of 10": [10] * 20,
    "100 single images and 1 of 100": [1] * 100 + [100],
    "100 single images and 5 of 40": [1] * 100 + [40] * 5,
    "sizes 120 / rank": [max(1, round(120 / rank)) for rank in range(1, 61)],
    "50 single images and 10 of 20": [1] * 50 + [20] * 10,
}


# Intervals of (correct, count); these four are the worked examples of Newcombe 1998.
@pytest.mark.parametrize(
    ("correct", "count", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_agrees_with_newcombe(correct, count, low, high):
    assert wilson(correct, count) == pytest.approx((low, high), abs=5e-5)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.integers(1, 500), min_size=1, max_size=6), st.integers(0, 40), st.randoms())
@example([127, 1], 0, Random(0))
@example([390, 3], 0, Random(0))
@example([149], 1, Random(0))
@example([250, 1, 250, 1], 0, Random(0))
def test_families_of_any_sizes_have_an_interval(sizes, single, random):
    sizes = [*sizes, *[1] * single]
    families = np.repeat(np.arange(len(sizes)), sizes)
    right = np.array([random.random() < 0.8 for _ in families])
    for chance in (0.05, 0.005, 1e-6):
        low, high = interval(right, families, chance)
        assert 0 <= low <= high <= 1
        assert low <= right.mean() <= high


@pytest.mark.parametrize("count", [0, 1, 4, 7, 10, 14, 1000])
def test_wilson_is_symmetric_and_reaches_its_bounds_where_all_or_none_are_correct(count):
    low, high = wilson(count, count)
    assert 0 <= low < high == 1.0
    assert wilson(0, count) == pytest.approx((0, 1 - low), abs=1e-12)


def drawn(random, sizes, accuracy, alike):
    """Return whether each image is right; `alike` is the correlation inside of a family."""
    if alike == 1:
        shares = (random.random(len(sizes)) < accuracy).astype(float)
    else:
        scale = (1 - alike) / alike
        shares = random.beta(accuracy * scale, (1 - accuracy) * scale, len(sizes))
    return random.random(sum(sizes)) < np.repeat(shares, sizes)


@pytest.mark.parametrize("alike", [1, 0.5, 0.2])
@pytest.mark.parametrize("name", FAMILIES)
def test_an_interval_of_95_percent_holds_in_95_percent_of_the_draws(name, alike):
    random = np.random.default_rng(len(name))
    sizes = FAMILIES[name]
    families = np.repeat(np.arange(len(sizes)), sizes)
    draws = 600
    held = 0
    for _ in range(draws):
        low, high = interval(drawn(random, sizes, 0.9, alike), families)
        held += low <= 0.9 <= high
    assert held / draws >= 0.93
    if max(sizes) == 1:
        assert held / draws <= 0.98, "an interval of single images is no wider than it must be"


def test_an_interval_of_single_images_is_that_of_wilson_and_one_film_says_nothing():
    right = np.arange(40) < 37
    assert interval(right, np.arange(40)) == wilson(37, 40)
    assert interval(right, np.zeros(40)) == (0.0, 1.0)
    assert interval(right[:0], np.arange(0)) == (0.0, 1.0)
    by_tens = interval(right, np.arange(40) // 10)
    assert by_tens[0] < wilson(37, 40)[0]
    wider = interval(right, np.arange(40), chance=0.001)
    assert wider[0] < wilson(37, 40)[0] < wilson(37, 40)[1] < wider[1]


def cells(both=0, only_a=0, only_b=0, neither=0):
    """Return for which of so many single images two models are right, and their families."""
    a = np.repeat([True, True, False, False], [both, only_a, only_b, neither])
    b = np.repeat([True, False, True, False], [both, only_a, only_b, neither])
    return a, b, np.arange(len(a))


def test_paired_accuracy_agrees_with_published_figures():
    """The interval agrees with Bonett and Price (2012), the p-value with an exact binomial test."""
    pair = paired_answers(*cells(both=43, only_a=8, only_b=9, neither=40))
    low, high = pair["ci95"]
    assert (pair["images"], pair["both"], pair["neither"]) == (100, 43, 40)
    assert pair["difference"] == pytest.approx(0.01)
    assert low < pair["difference"] < high and low == pytest.approx(-0.0739, abs=2e-4)
    assert paired_answers(*cells(1, 6, 0, 1))["p_value"] == pytest.approx(2 / 2**6)
    assert paired_answers(*cells(5))["p_value"] == 1.0
    many = paired_answers(*cells(10**5, 30_500, 31_000))["p_value"]
    assert many == pytest.approx(math.erfc(499 / math.sqrt(2 * 61_500)), rel=1e-3)
    assert paired_answers(*cells(5))["ci95"][1] > 0.2, "five images are no proof"


def test_a_film_that_flips_is_chance_however_long_it_is():
    before = np.ones(300, np.bool_)
    now = np.arange(300) >= 12
    film = np.where(now, np.arange(300), 0)
    assert paired_answers(before, now, np.arange(300))["p_value"] < 0.001
    pair = paired_answers(before, now, film)
    assert pair["p_value"] == 1.0
    low, high = pair["ci95"]
    assert low < 0 < high


def test_sums_of_families_of_several_sizes_are_flipped_exactly():
    """Of 3, 2 and 1 lost images in three families, a sum of 6 has two of eight signs."""
    families = np.array([0, 0, 0, 1, 1, 2])
    lost = paired_answers(np.ones(6, np.bool_), np.zeros(6, np.bool_), families)
    assert lost["p_value"] == pytest.approx(2 / 8)
    # 3 - 2 - 1 = 0: every sum is at least as large.
    gained = np.array([False, False, False, True, True, True])
    assert paired_answers(gained, ~gained, families)["p_value"] == pytest.approx(1.0)


@pytest.mark.parametrize("sizes", [[1] * 400, [4] * 100, [10] * 40, [1] * 200 + [20] * 10])
def test_equally_good_models_are_rarely_told_apart(sizes):
    random = np.random.default_rng(0)
    families = np.repeat(np.arange(len(sizes)), sizes)
    told_apart = 0
    draws = 400
    for _ in range(draws):
        gains = np.where(random.random(len(sizes)) < 0.1, random.choice([-1, 1], len(sizes)), 0)
        gain = np.repeat(gains, sizes)
        told_apart += paired_answers(gain <= 0, gain >= 0, families)["p_value"] < 0.05
    assert told_apart / draws <= 0.07
