"""The sentence and the hints about a run, whether cross-validation or validation decided."""

import pytest

from imgpipe.components.report import verdict
from imgpipe.components.report.hints import warnings
from tests.components.report.report_facts import facts


def by_validation():
    """Return facts of a run without cross-validation."""
    found = facts() | {"cross_validation": None}
    found["settings"] = found["settings"] | {"cross_validate": 0}
    return found


def test_the_verdict_states_the_accuracy_over_folds_if_they_decide():
    state = verdict.state(facts())
    assert state.status == "blessed"
    assert state.verdict.startswith(
        "blessed: mean accuracy 0.948 ± 0.021 over 5 folds (0.920 to 0.975; "
        "142 of 150 correct) reaches "
        "the threshold 0.9"
    )


def test_the_verdict_says_why_automatic_folds_decide():
    found = facts()
    found["cross_validation"] |= {"automatic": True, "validation_images": 14}
    why = "; the folds decide, because the validation split has only 14 images"
    assert why in verdict.sentence(found)
    found["gate"] |= {"failed": ["cross_validation"], "blessed": False}
    assert "is below the threshold 0.9" + why in verdict.sentence(found)


def test_a_model_that_answers_nothing_is_refused_by_the_serving_check():
    found = by_validation()
    found["gate"] |= {"value": None, "correct": None, "failed": ["threshold"], "blessed": False}
    found["serving"] = [{"name": "answers", "passed": False, "detail": "FAILED_PRECONDITION"}]
    found["confusion"] = {}
    assert verdict.sentence(found) == (
        "not blessed: no validation image was evaluated; the serving check 'answers' failed: "
        "FAILED_PRECONDITION"
    )


def test_folds_under_the_threshold_are_not_blessed():
    found = facts()
    found["gate"] |= {"failed": ["cross_validation"], "blessed": False}
    state = verdict.state(found)
    assert state.status == "not_blessed"
    assert (
        "over 5 folds (0.920 to 0.975; 142 of 150 correct) is below the threshold 0.9"
        in state.verdict
    )


def test_a_drop_below_the_baseline_states_the_validation_accuracy():
    found = facts()
    found["gate"] |= {"failed": ["baseline"], "blessed": False}
    text = verdict.sentence(found)
    assert "142 of 150 correct) reaches the threshold 0.9, but validation accuracy" in text
    assert "is below 0.961, which version 3 reached" in text
    found["cross_validation"] |= {"automatic": True, "validation_images": 14}
    assert verdict.sentence(found) == text, "the folds decide nothing about the baseline"


def test_the_verdict_states_the_validation_accuracy_if_validation_decides():
    text = verdict.sentence(by_validation())
    assert text.startswith(
        "blessed: validation accuracy 0.933 (56 of 60 correct, 95 % interval 0.84–0.97)"
    )


def test_an_accuracy_just_below_the_threshold_is_printed_with_enough_digits():
    found = by_validation()
    found["gate"] |= {
        "failed": ["threshold"],
        "blessed": False,
        "value": 0.8996,
        "threshold": 0.9,
    }
    assert "validation accuracy 0.8996 (" in verdict.sentence(found)
    assert "is below the threshold 0.9" in verdict.sentence(found)


def test_a_mean_and_a_baseline_just_missed_are_printed_with_enough_digits():
    found = facts()
    found["gate"] |= {"failed": ["cross_validation"], "blessed": False}
    found["cross_validation"] |= {"mean": 0.8998}
    assert "mean accuracy 0.8998 ± " in verdict.sentence(found)
    found = by_validation()
    found["gate"] |= {"failed": ["baseline"], "blessed": False, "value": 0.9503}
    found["gate"] |= {"baseline": 0.95042}
    text = verdict.sentence(found)
    assert "validation accuracy 0.9503 (" in text and "is below 0.9504, which version 3" in text


def test_the_verdict_states_the_number_of_overridden_labels():
    found = by_validation()
    assert "overridden" not in verdict.sentence(found)
    found["data"]["overrides"] = {"relabelled": {"train": 0, "validation": 1, "test": 0}}
    assert verdict.sentence(found).endswith("; 1 label was overridden (1 of validation)")


def test_unconfirmed_proposals_give_a_hint():
    found = facts()
    found["settings"]["proposals"] = 44
    (hint,) = warnings(found)
    assert hint.startswith("judge.overrides holds 44 unconfirmed proposals, which changed nothing")


def test_a_class_that_no_fold_could_learn_gives_a_hint():
    found = facts()
    found["cross_validation"]["unlearned"] = [[1, 40]]
    (hint,) = warnings(found)
    name = found["settings"]["vocabulary"][1]
    assert hint.startswith(
        f"no fold could learn {name}, because all of its images are in one fold, "
        "as the images of one group always are"
    )
    assert "40 images of it counted as wrong" in hint


@pytest.mark.parametrize(("count", "hints"), [(60, 1), (199, 1), (200, 0), (0, 0)])
def test_a_small_validation_split_gives_a_hint_unless_folds_decide(count, hints):
    found = by_validation()
    found["gate"] |= {"count": count}
    assert len(warnings(found)) == hints
    assert warnings(facts()) == [], "folds decide already"


@pytest.mark.parametrize(
    "reason",
    [
        {"bank": {"dim": 0}},
        {"training": {"fine_tune": {"shipped": True}}},
        {"folds_note": "there are too few independent images for 5 folds"},
    ],
    ids=["no features", "fine-tuned", "few groups"],
)
def test_if_folds_cannot_decide_the_hint_advises_more_validation_images(reason):
    found = by_validation() | reason
    found["settings"] |= {"cross_validate": -1}
    (hint,) = warnings(found)
    assert hint.startswith("the validation split has only 60 images")
    assert hint.endswith("add images, or give more of them to validation with split.validation")


def test_the_hint_states_the_weight_of_an_image_and_the_setting():
    (hint,) = warnings(by_validation())
    assert (
        "the validation split has only 60 images, so each of them changes the accuracy by 1.7"
        in hint
    )
    assert "evaluate.cross_validate = 5" in hint


@pytest.mark.parametrize("found", [{}, {"gate": None}, {"gate": {}, "settings": None}])
def test_a_run_without_evaluation_has_no_hint(found):
    assert warnings(found) == []
