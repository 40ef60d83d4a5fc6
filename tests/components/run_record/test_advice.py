"""The section on next steps: each piece of advice is given if and only if its fact is there."""

import pytest

from imgpipe.components.report.page import render
from imgpipe.components.run_record import advice
from tests.run_facts import BLESSED, facts


def solved(**values):
    """Return facts of a run whose head was solved, with further facts about the solution."""
    return {"training": {"epochs": [{}], "stopped": "solved", "solution": {"folds": 5} | values}}


def unseen(**values):
    """Return facts of a run whose head made too few mistakes for a search."""
    skipped = {"search": [{}], "search_ended": {"reason": "few_mistakes"}}
    return {"training": solved(**values)["training"] | skipped}


def doubted(*margins):
    """Return facts of a run with doubtful labels of these margins."""
    return {"suspects": {"images": 373, "rows": [{"margin": margin} for margin in margins]}}


def trained_on(**counts):
    """Return facts of a run with these numbers of training images by class."""
    return {"data": {"by_split": {"train": counts}}}


def confused(*cells):
    """Return facts of a run with these cells (label, prediction, count) of the confusion matrix."""
    return {"settings": {"vocabulary": list("abc")}, "confusion": {"validation": cells}}


def changed(settings):
    """Return facts of a run with these changed settings."""
    return {"settings": {"changed": settings}}


LAST = {"epochs": [{}] * 4, "stopped": "epochs", "best_epoch": 4}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (doubted(0.9, 0.5, 0.1), "2 of 373 labels are clearly doubtful."),
        (doubted(0.9), "1 of 373 labels is clearly doubtful"),
        (
            doubted(0.9) | solved(accuracy=0.646),
            "Many of these labels may be right: the head that flagged them has an accuracy of "
            "only 0.65.",
        ),
        (
            trained_on(cat=12, dog=80, owl=90),
            "Class cat has only 12 training images (the median class has 80).",
        ),
        (trained_on(cat=40, dog=900, owl=800), "Class cat has only 40"),
        (trained_on(cat=4, dog=4), "Each class has at most 4 training images."),
        (trained_on(cat=29, dog=34), "Each class has at most 34 training images."),
        (
            solved(accuracy=0.931),
            "the head alone reaches 0.931. With --minutes 15 further layers are trained too",
        ),
        (
            unseen(accuracy=0.802),
            "reaches 0.802, but too few images are held out to show whether another network is",
        ),
        (
            {"training": {"search_ended": {"reason": "minutes"}}},
            "With more time, the search may find a network that is better than this one: use",
        ),
        (
            solved(
                learning_curve=[{"images": n, "accuracy": n / 1000} for n in (400, 800)],
                gain_error=0.02,
            ),
            "From 400 to 800 training images, accuracy rose by 40.0 points, so that more",
        ),
        (
            solved(
                learning_curve=[{"images": n, "accuracy": 0.95 + n / 4000} for n in (40, 80)],
                gain_error=0.011,
            ),
            "accuracy rose by 1.0 points, which may be chance.",
        ),
        (
            solved(
                learning_curve=[{"images": n, "accuracy": 0.95 + n / 4000} for n in (40, 80)],
                gain_error=0.009,
            ),
            "accuracy rose by 1.0 points, so that more images would probably help.",
        ),
        (
            solved(
                learning_curve=[{"images": n, "accuracy": 1 - n / 4000} for n in (40, 80)],
                gain_error=0.011,
            ),
            "accuracy fell by 1.0 points, which may be chance.",
        ),
        (
            solved(learning_curve=[{"images": n, "accuracy": n / 1000} for n in (400, 800)]),
            "accuracy rose by 40.0 points, which may be chance.",
        ),
        (
            solved(learning_curve=[{"images": n, "accuracy": 0.9} for n in (400, 800)]),
            "more such images would help little",
        ),
        ({"training": LAST}, "stopped at the last epoch, 4, which was the best"),
        ({"training": {"fine_tune": LAST}}, "Raise fine_tune.epochs"),
        (
            confused((0, 0, 9), (0, 1, 3), (1, 0, 2), (2, 0, 4)),
            "a and b are confused most: 5 of 9 mistakes on the validation split.",
        ),
    ],
)
def test_a_fact_leads_to_its_advice(given, words):
    assert any(words in said.text for said in advice.advice(given))


@pytest.mark.parametrize(
    "given",
    [
        {},
        dict.fromkeys(facts()),
        doubted(0.1, 0.05),
        trained_on(cat=80, dog=90),
        trained_on(cat=3),
        solved(accuracy=0.99),
        unseen(accuracy=0.99),
        {"training": solved(accuracy=0.9)["training"] | {"fine_tune": {"epochs": [{}]}}},
        {"training": solved(accuracy=0.9)["training"] | {"search": [{}, {}]}},
        solved(accuracy=0.8) | changed({"evaluate.cross_validate": 5}),
        solved(accuracy=0.8) | changed({"fine_tune.mode": "off"}),
        {"training": {"search_ended": {"reason": "all"}}},
        solved(learning_curve=[{"images": 400, "accuracy": 0.9}]),
        {"training": {"fine_tune": LAST, "search": [{}, {}]}},
        {"training": LAST | {"best_epoch": 2}},
        {"training": LAST | {"stopped": "plateau"}},
        confused((0, 0, 9), (0, 1, 1)),
    ],
)
def test_without_its_fact_there_is_no_advice(given):
    assert advice.advice(given) == []


def test_the_page_gives_at_most_three_pieces_of_advice_after_the_verdict():
    curve = [{"images": n, "accuracy": n / 1000} for n in (400, 800)]
    given = facts() | solved(accuracy=0.9, learning_curve=curve) | doubted(0.9)
    given["training"]["epochs"] = facts()["training"]["epochs"]
    given["data"]["by_split"]["train"]["rock"] = 2
    assert len(advice.advice(given)) == advice.MOST
    page = render(given, None, {}, BLESSED)
    positions = [page.index(f'id="{name}"') for name in ("verdict", "next_steps", "figures")]
    assert positions == sorted(positions)
    steps = page[positions[1] : positions[2]]
    assert steps.count("<li>") == advice.MOST
    assert 'href="#doubtful_labels"' in steps


def test_a_run_without_advice_says_so():
    given = facts() | {"suspects": None, "confusion": None}
    assert "No fact of this run calls for a change" in render(given, None, {}, BLESSED)
