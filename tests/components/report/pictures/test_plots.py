"""Plots of the page, and how many images would reach an accuracy if the learning curve says it."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from imgpipe.components.image_evaluator.decision import Decision
from imgpipe.components.report.pictures import plots
from imgpipe.components.report.pictures.plots import images_to_threshold, power_law
from imgpipe.models.head.solved_head import Solution
from imgpipe.models.training.history import FineTuned, History
from tests.declared import made


def test_a_plot_uses_the_colours_of_the_page_and_has_no_fixed_width():
    svg = plots.curves([1, 2, 3], [0.1, 0.2, 0.3], [0.2, 0.3, 0.2], 2, "accuracy")
    assert "var(--validation)" in svg
    assert "var(--train)" in svg
    assert not re.search(r"#0a0b0\d", svg)
    assert 'width="' not in svg.partition(">")[0]


def test_references_within_a_plot_lead_to_its_own_ids():
    svg = plots.curves([1, 2], [0.0, 1.0], [1.0, 0.0], 1, "loss")
    ElementTree.fromstring(svg)
    ids = set(re.findall(r' id="([^"]+)"', svg))
    references = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
    assert references
    assert references <= ids


@pytest.mark.parametrize(
    ("train", "validation", "best"),
    [([0.5], [0.4], 1), ([None, None], [0.1, 0.2], None), ([float("nan")] * 2, [0.0, 0.0], 9)],
)
def test_odd_histories_are_drawn_without_a_warning(train, validation, best):
    assert "<svg" in plots.curves(list(range(1, len(train) + 1)), train, validation, best, "x")


def curve(*accuracies, error=0.005):
    """Return a solution with a point for each doubling of the images, from 100 on."""
    points = [
        {"images": 100 * 2**place, "accuracy": accuracy}
        for place, accuracy in enumerate(accuracies)
    ]
    return made(Solution, learning_curve=points, gain_error=error)


def images_for(solution, accuracy):
    training = made(History, solution=solution, fine_tune=None)
    return images_to_threshold(training, made(Decision, failed=["threshold"], threshold=accuracy))


def test_the_curve_goes_on_from_its_last_point_as_it_came():
    halved = curve(0.6, 0.8, 0.9)  # the share of mistakes halves with twice the images
    law = power_law(halved)
    assert law.accuracy(400) == pytest.approx(0.9)
    assert law.accuracy(800) == pytest.approx(0.95)
    assert images_for(halved, 0.95) == 800
    assert images_for(curve(0.6, 0.73, 0.81), 0.86) in range(600, 1000, 10), "two digits"
    assert power_law(curve(0.4, 0.7, 0.75)).accuracy(800) < 0.8, "its end counts where it flattens"


@pytest.mark.parametrize(
    ("solution", "accuracy"),
    [
        (curve(0.6, 0.8, 0.9, error=0.2), 0.95),  # the last gain may be chance
        (curve(0.6, 0.9, 0.8), 0.95),
        (curve(0.6, 0.8, 0.9), 0.85),  # it is reached already
        (curve(0.6, 0.8, 0.9), 0.999),  # too far from what was measured
        (curve(0.6, 0.8, 0.9), 1.0),
        (curve(0.6, 0.8, 1.0), 1.0),
        (curve(0.8, 0.9), 0.95),
        (made(Solution), 0.95),
    ],
)
def test_otherwise_no_number_is_said(solution, accuracy):
    assert images_for(solution, accuracy) is None


def test_only_a_threshold_that_the_solved_head_has_missed_is_spoken_of():
    training = made(History, solution=curve(0.6, 0.8, 0.9), fine_tune=None)
    missed = made(Decision, failed=["threshold"], threshold=0.95)
    assert images_to_threshold(training, made(Decision, failed=[], threshold=0.95)) is None
    tuned = made(History, solution=curve(0.6, 0.8, 0.9), fine_tune=made(FineTuned))
    assert images_to_threshold(tuned, missed) is None
    assert images_to_threshold(None, None) is None
