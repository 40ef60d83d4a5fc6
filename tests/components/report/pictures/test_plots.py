"""Plots have the right orientation and the colours of the page, and several fit on one page."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from imgpipe.components.report.pictures import plots


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
