"""The sentence and the hints about a run, and its result beside the expected one."""

import pytest

from imgpipe.components.example_gen.notes import Notes
from imgpipe.components.image_evaluator.decision import Ruling
from imgpipe.components.image_filter.file_clues import FileClues
from imgpipe.components.image_filter.findings import of_source
from imgpipe.components.image_filter.summary import Families
from imgpipe.components.run_record import verdict
from imgpipe.components.run_record.result import new
from imgpipe.components.run_record.verdict import all_findings, run_findings
from imgpipe.models.finding import Finding
from imgpipe.models.head.solved_head import Solution
from imgpipe.models.training.history import FineTuned
from tests.answer_tables import figures
from tests.declared import made
from tests.pages import render
from tests.run_results import by_validation, data_summary, decided_by, history, result


def said_of(found, reason):
    return [one for one in all_findings(found) if one["reason"] == reason]


def test_the_verdict_of_a_blessed_model_names_the_figures_and_the_threshold():
    found = result()
    found = verdict.ended(found)
    assert found["status"] == "blessed"
    assert found["verdict"] == (
        "blessed: cross-validation accuracy 0.948 reaches the threshold 0.9"
    )


def test_the_accuracy_on_test_stands_in_one_line():
    found = result()
    found["metrics"]["test"] |= figures(68, 73)
    assert verdict.test_line(found["metrics"]) == (
        "0.932 (68 of 73, 95 % interval 0.85–0.97); it decided nothing"
    )
    assert verdict.test_line({}) == ""
    head = render(found, {}).partition('<details id="numbers"')[0]
    assert "accuracy 0.932 (68 of 73, 95 % interval 0.85–0.97); it decided nothing." in head


def test_an_accuracy_whose_interval_begins_below_the_threshold_may_be_chance():
    found = result()
    found["gate"]["decided_by"] = decided_by(600, 663)
    assert verdict.ended(found)["verdict"] == (
        "blessed: cross-validation accuracy 0.948 reaches the threshold 0.9, which may be chance"
    )


def test_an_accuracy_that_is_not_known_reaches_no_threshold():
    found = by_validation()
    found["gate"] |= {"threshold": 0, "figures": "no validation accuracy is known"}
    found["gate"]["decided_by"] = {**decided_by(0, 0), "accuracy": None}
    assert verdict.ended(found)["verdict"].startswith("blessed: no validation accuracy is known")
    assert "reaches" not in verdict.ended(found)["verdict"]


def test_where_folds_decide_nothing_is_said_of_validation():
    found = result()
    of_splits = {"train": 3, "validation": 11, "test": 30}
    divided = {"validation": 40, "test": 0}
    families = made(Families, families=9, images=90, divided=divided, independent=of_splits)
    found["data"] = data_summary(families=families)
    assert verdict.ended(found)["verdict"].endswith("reaches the threshold 0.9")
    said = " ".join(each["sentence"] for each in all_findings(found))
    assert "validation has only" not in said and "too high" not in said


@pytest.mark.parametrize(
    ("push", "compared", "said"),
    [
        (
            {"refused_by": ["other_version"]},
            3,
            "version 3, which it was compared with, is no longer the served one",
        ),
        ({"refused_by": ["other_version"]}, 0, "another version was published meanwhile"),
        (
            {"refused_by": ["rollback"], "withdrawn": "2"},
            3,
            "a rollback has withdrawn this model, which is that of version 2",
        ),
    ],
)
def test_the_verdict_says_why_a_blessed_model_is_not_published(push, compared, said):
    found = result()
    found["push"] |= {"status": "refused", **push}
    found["baseline"]["version"] = compared
    found = verdict.ended(found)
    reached = "its cross-validation accuracy 0.948 reaches the threshold 0.9"
    assert (found["status"], found["verdict"]) == (
        "not_published",
        f"not published: {said}; {reached}",
    )
    assert ">✕</span> Not published</h1>" in render(found, {})


def test_the_verdict_of_a_refused_model_gives_every_reason():
    found = by_validation()
    found["gate"] |= {"blessed": False, "figures": "validation accuracy 0.95 (…)"}
    found["gate"] |= {"failed": ["a", "b"], "reasons": ["it never predicts 'x'", "it is bad"]}
    found = verdict.ended(found)
    assert (found["status"], found["verdict"]) == (
        "not_blessed",
        "not blessed: validation accuracy 0.95 (…): it never predicts 'x'; it is bad; version 3 "
        "stays published",
    )
    assert verdict.headline(found["verdict"], found["gate"]) == (
        "not blessed: validation accuracy 0.95 (…); version 3 stays published"
    )


def test_the_verdict_says_that_files_tell_the_classes_apart():
    clues = made(FileClues, images=150, right=147, properties=["format"])
    found = result()
    found["data"] = data_summary(file_clues=clues)
    assert verdict.sentence(found).endswith("; format alone tells 98 % of the images apart")


def test_every_rule_has_a_line_but_the_threshold_that_was_reached():
    gate = result()["gate"]
    assert gate is not None
    reached = Ruling(rule="threshold", text="0.95 of 0.9", reason="", state="passed")
    below: Ruling = {**reached, "reason": "it is below"}
    serving: Ruling = {**reached, "rule": "serving"}
    gate["rulings"] = [below, reached, serving]
    assert verdict.rulings(gate) == [below, serving]


def test_the_verdict_says_that_given_minutes_have_decided():
    found = by_validation()
    for reason, said in (("minutes", True), ("all", False)):
        ended = made(Finding, reason=reason)
        found["training"] = history(search_ended=ended)
        assert ("minutes that were given for the search" in verdict.sentence(found)) is said


def test_the_verdict_states_the_number_of_changed_labels():
    found = by_validation()
    assert "a person has" not in verdict.sentence(found)
    overrides = found["data"]["overrides"]
    relabelled = {**overrides, "applied": {"relabel": 2}, "relabelled_test": 1}
    found["data"] = data_summary(overrides=relabelled)
    assert verdict.sentence(found).endswith(
        "; a person has decided about 2 images: 2 relabelled (1 label of test)"
    )


def test_a_class_that_no_fold_could_learn_gives_a_hint():
    found = result()
    found["training"]["cross_validation"]["unlearned"] = [[1, 40]]
    (said,) = run_findings(found)
    assert said["remedies"][0] == "add images of rock in other groups"
    class_hint = said["sentence"]
    assert class_hint.startswith("no model of the cross-validation could learn rock, because all")
    assert "40 images counted as wrong" in class_hint
    found["training"]["cross_validation"]["unlearned"] = [[0, 2], [1, 40]]
    (said,) = run_findings(found)
    assert said["sentence"].startswith("no model of the cross-validation could learn paper, rock,")


def test_a_class_that_was_never_right_and_did_not_refuse_the_model_is_named():
    found = result()
    assert not said_of(found, "never_right")
    found["metrics"]["folds"]["per_class"] = {f"c{n}": figures(0, 2) for n in range(6)}
    [said] = said_of(found, "never_right")
    assert said["sentence"] == (
        "no image of c0, c1, c2, c3, … (2 more) was answered correctly (0 of 12), so that the "
        "model may not know these classes"
    )
    assert said["remedies"][0] == "add images of c0, c1, c2, c3, … (2 more)"
    found["gate"]["failed"] = ["class_recall"]
    assert not said_of(found, "never_right"), "the verdict says so"
    found["gate"]["failed"] = []
    found["metrics"]["folds"]["per_class"] = {"c0": figures(0, 2)}
    found["training"]["cross_validation"]["unlearned"] = [[0, 2]]
    assert not said_of(found, "never_right"), "the finding about the fold says so"


def test_a_test_accuracy_that_is_below_what_decided_stands_in_the_verdict():
    found = result()
    assert not said_of(found, "test_below")
    found["metrics"]["test"] |= figures(6, 16)
    [said] = said_of(found, "test_below")
    assert said["sentence"].startswith(
        "the test accuracy 0.375 (95 % interval 0.18–0.61) is by more than chance below the "
    )
    assert verdict.sentence(found).endswith(
        "; the test accuracy is by more than chance below the accuracy that decided"
    )


@pytest.mark.parametrize(("count", "hints"), [(60, 1), (199, 1), (200, 0), (0, 0)])
def test_a_small_validation_split_gives_a_hint_unless_folds_decide(count, hints):
    found = by_validation()
    found["gate"]["decided_by"]["count"] = count
    assert len(run_findings(found)) == hints
    assert run_findings(result()) == [], "folds decide already"


_MORE = "add images, or give more of them to validation with split.validation"


@pytest.mark.parametrize(
    ("training", "cross_validate", "remedy"),
    [
        ({"solution": made(Solution, l2=1.0)}, 0, "set evaluate.cross_validate = 5, which"),
        ({"solution": made(Solution, l2=1.0)}, -1, _MORE),
        ({"solution": made(Solution), "fine_tune": made(FineTuned, accuracy=0.9)}, 0, _MORE),
        ({"solution": None}, 0, _MORE),
    ],
    ids=["solved", "few groups", "fine-tuned", "by epochs"],
)
def test_the_hint_states_the_weight_of_an_image_and_a_remedy(training, cross_validate, remedy):
    found = by_validation() | {"training": history(**training, cross_validation=None)}
    found["cross_validate"] = cross_validate
    (said,) = run_findings(found)
    assert "has only 60 images, so each of them changes the accuracy by 1.7" in said["sentence"]
    assert said["remedies"][0].startswith(remedy)
    html = render(verdict.ended(found), {})
    assert said["sentence"][1:] in html and said["remedies"][0][1:] in html


def test_a_run_without_evaluation_has_no_hint():
    assert run_findings(new(classes=["cat", "dog"])) == []


def test_blessed_is_not_said_beside_much_that_was_left_out():
    notes = Notes()
    notes.add("skipped", "mask", count=9)
    few = of_source(notes.findings(), {"rock": 60, "paper": 60})
    notes.add("skipped", "mask", count=51)
    left_out = of_source(notes.findings(), {"rock": 60, "paper": 60})
    found = result() | {"data": data_summary(findings=left_out)}
    assert verdict.sentence(found).startswith(
        "blessed for the images that were used (not used: 60 skipped files (mask)): "
    )
    assert "Not used: 60 skipped files (mask)." in render(found, {})
    found["data"] = data_summary(findings=few)
    assert verdict.sentence(found).startswith("blessed: ")
