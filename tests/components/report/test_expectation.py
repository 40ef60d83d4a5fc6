"""The result of a run is compared with the expected one."""

import pytest

from imgpipe.components.report import expectation, page
from tests.components.report.report_facts import BLESSED, facts

COURSE = {
    "text": "the course, after 20 epochs",
    "data": "cats and dogs",
    "low": 0.95,
    "high": 0.97,
    "split": "validation",
    "time": "3 minutes on two cores",
}


def run_of(accuracy, **expect):
    """Return facts of a run whose splits all have this accuracy."""
    found = facts(accuracy=0.9)
    found["settings"]["expect"] = COURSE | expect
    for split in found["metrics"]:
        found["metrics"][split]["accuracy"] = accuracy
    return found


@pytest.mark.parametrize(
    ("accuracy", "compared"),
    [(0.949, "below"), (0.95, "within"), (0.97, "within"), (0.971, "above")],
)
def test_the_result_is_below_within_or_above_the_expected_range(accuracy, compared):
    assert expectation.beside(run_of(accuracy))["compared"] == compared


def test_without_an_upper_limit_no_result_is_above():
    assert expectation.beside(run_of(1.0, high=None))["compared"] == "within"
    assert expectation.beside(run_of(0.9, high=None))["compared"] == "below"


def test_without_limits_the_result_is_not_compared():
    found = expectation.beside(run_of(0.9, low=None, high=None))
    assert found["compared"] is None
    assert found["value"] == 0.9


def test_validation_is_compared_if_the_expected_split_is_missing():
    found = run_of(0.96, split="test")
    assert expectation.beside(found)["split"] == "test"
    del found["metrics"]["test"]
    assert expectation.beside(found)["split"] == "validation"


def test_a_run_that_stopped_early_has_no_value():
    found = run_of(0.9)
    found["metrics"] = {}
    beside = expectation.beside(found)
    assert (beside["value"], beside["compared"]) == (None, None)
    assert [heading for heading, _ in expectation.lines(beside)] == ["expected"]


def test_without_an_expectation_there_are_no_lines():
    assert expectation.beside(facts()) is None
    assert expectation.beside(run_of(0.9, text="", low=None, high=None)) is None
    assert expectation.lines(None) == []


def test_expected_ranges_and_results_are_formatted_as_lines():
    assert expectation.figures(0.8, None) == "0.8 or more"
    assert expectation.figures(None, 0.5) == "up to 0.5"
    assert expectation.figures(0.8425, 0.8425) == "0.8425"
    assert expectation.lines(expectation.beside(run_of(0.9812))) == [
        ("expected", "0.95 to 0.97; the course, after 20 epochs; 3 minutes on two cores"),
        ("this run", "0.981 on validation: above"),
    ]


def test_the_page_shows_the_expectation_and_the_result():
    text = page.render(run_of(0.9812), {}, {}, BLESSED)
    assert "0.95 to 0.97; the course, after 20 epochs" in text
    assert "0.981 on validation: above" in text
    assert "Expected:" not in page.render(facts(), {}, {}, BLESSED)
