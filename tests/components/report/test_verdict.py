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


def test_the_verdict_of_a_blessed_model_names_the_figures_the_threshold_and_the_last_version():
    found = facts()
    state = verdict.state(found)
    assert state.status == "blessed"
    assert state.verdict == (
        "blessed: mean accuracy 0.948 ± 0.021 over 5 folds reaches the threshold 0.9; on "
        "validation the accuracy is 0.933, where the last blessed version, 3, reaches 0.961"
    )
    found["cross_validation"] |= {"automatic": True, "validation_images": 14}
    why = "; the folds decide, because the validation split has only 14 images"
    assert why in verdict.sentence(found)


def test_the_verdict_of_a_refused_model_gives_every_reason():
    found = by_validation()
    found["confusion"] = {}
    found["gate"] |= {"blessed": False, "figures": "validation accuracy 0.95 (…)"}
    found["gate"] |= {"failed": ["a", "b"], "reasons": ["it never predicts 'x'", "it is bad"]}
    state = verdict.state(found)
    assert (state.status, state.verdict) == (
        "not_blessed",
        "not blessed: validation accuracy 0.95 (…): it never predicts 'x'; it is bad",
    )


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
