"""The decision about a model: each rule refuses with its reason, and nothing else does."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from imgpipe.components.common.answer_table import AnswerTable
from imgpipe.components.image_evaluator.evidence import Evidence
from imgpipe.components.image_evaluator.rules import RULES, decide
from imgpipe.models.settings.running import EvaluateSettings
from imgpipe.models.training.history import Folds
from tests.answer_tables import answer, compared, counted, table
from tests.declared import made

_GOOD = Evidence(
    EvaluateSettings(threshold=0.9, max_drop=0.01),
    counted([40, 20], [38, 19]),
    compared((38, 0, True, True), (2, 0, False, False), (19, 1, True, True), (1, 1, False, True)),
    version=3,
)
_THREE = ("good", "rare", "defect")
_BELOW = (
    "the recall of 'defect', its share of right answers, is below 0.225 (evaluate.min_recall) in "
    "validation by more than chance: 1 of 30 images, 95 % interval 0.01–0.17"
)
_FOLDS = {"folds": 5, "std": 0.021, "min": 0.92, "max": 0.975}


def _folds(
    images: Sequence[int] = (100, 50),
    right: Sequence[int] = (97, 45),
    vocabulary: Sequence[str] = ("good", "defect"),
    **values: object,
) -> Evidence:
    """Return the evidence of a model on which folds with these answers decide."""
    answers = counted(images, right, vocabulary)
    return replace(_GOOD, answers=answers, folds=made(Folds, **_FOLDS, **values))


def _good(
    images: Sequence[int], right: Sequence[int], vocabulary: Sequence[str] = ("good", "defect")
) -> Evidence:
    """Return the evidence of a model with these counts that is not compared; see `counted`."""
    return replace(_GOOD, answers=counted(images, right, vocabulary), compared=None)


def _of_families(sizes: Sequence[int]) -> AnswerTable:
    rows = []
    for film, size in enumerate(sizes):
        label = film % 2
        family = b"film %d" % film
        rows += [answer(len(rows) + n, label, label, family=family) for n in range(size)]
    return table(("good", "defect"), *rows)


def test_a_model_that_passes_every_rule_is_blessed_with_its_figures() -> None:
    decision = decide(_GOOD)
    assert decision["blessed"] is True
    assert (decision["failed"], decision["reasons"]) == ([], [])
    assert decision["figures"] == (
        "validation accuracy 0.950 (57 of 60 images correct, 95 % interval 0.86–0.98)"
    )
    decided_by = decision["decided_by"]
    assert (decided_by["kind"], decided_by["folds"]) == ("validation", None)
    assert (decided_by["accuracy"], decided_by["count"], decided_by["correct"]) == (0.95, 60, 57)
    by_folds = decide(_folds())
    assert by_folds["blessed"] is True
    assert by_folds["figures"] == (
        "cross-validation accuracy 0.947 (142 of 150 images correct, 95 % interval 0.90–0.97; by 5 "
        "models that had not seen them, 0.920 to 0.975 each)"
    )
    assert by_folds["decided_by"] == {
        "kind": "folds",
        **_folds().answers.figures(),
        "folds": 5,
        "std": 0.021,
    }


def _refused(evidence: Evidence) -> tuple[list[str], list[str]]:
    decision = decide(evidence)
    assert decision["blessed"] is not bool(decision["failed"])
    assert set(decision["failed"]) <= set(RULES)
    return decision["failed"], decision["reasons"]


@pytest.mark.parametrize(
    ("evidence", "failed", "reason"),
    [
        (_good([40, 20], [35, 18]), "threshold", "it is below the threshold 0.9"),
        (_good([0, 0], [0, 0]), "threshold", "no validation image was evaluated"),
        (
            _good([380, 20], [369, 10]),
            "commonest_class",
            "it is not better in validation than always answering 'good', which is right for "
            "380 of 400 images",
        ),
        (
            _folds([342, 18], [337, 5]),
            "commonest_class",
            "it is not better in cross-validation than always answering 'good', which is right for "
            "342 of 360 images",
        ),
        (
            _good([6, 5], [6, 5]),
            "evidence",
            "it cannot be judged: 11 images in validation; about 1 image more would do",
        ),
        (
            _good([18, 2], [17, 2]),
            "evidence",
            "it cannot be judged: 20 images in validation; about 119 images more would do",
        ),
        (
            replace(_GOOD, answers=_of_families([60, 60]), compared=None),
            "evidence",
            "it cannot be judged: 2 families in validation; about 13 families more would do",
        ),
        (
            _good([60, 45, 5], [60, 45, 0], _THREE),
            "class_recall",
            "it never predicts 'defect', although 5 images of it were held out",
        ),
        (_good([300, 30, 30], [300, 30, 1], _THREE), "class_recall", _BELOW),
        (_good([200, 2, 30, 100], [200, 0, 1, 100], (*_THREE, "scratch")), "class_recall", _BELOW),
        (
            replace(_GOOD, unserved="the serving check 'answers' failed: NOT_FOUND"),
            "serving",
            "the serving check 'answers' failed: NOT_FOUND",
        ),
    ],
)
def test_each_rule_refuses_with_its_reason(evidence: Evidence, failed: str, reason: str) -> None:
    assert _refused(evidence) == ([failed], [reason])


def test_a_model_that_is_worse_than_the_last_version_by_more_than_chance_is_refused() -> None:
    cells = ((38, 0, True, True), (2, 0, False, True), (10, 1, True, True), (8, 1, False, True))
    worse = replace(_GOOD, compared=compared(*cells, (2, 1, False, False)))
    failed, (reason,) = _refused(worse)
    assert failed == ["last_version"]
    assert reason == (
        "it is worse than the last version by more than chance and 0.01 (evaluate.max_drop): right "
        "for 48 of 60 validation images, where version 3 is right for 58, both by networks that "
        "were not trained on them; 95 % interval of the difference -0.26 to -0.06"
    )
    cells = ((80, 0, True, True), (10, 0, True, False), (12, 1, True, True), (8, 1, False, True))
    of_a_class = replace(_GOOD, compared=compared(*cells))
    assert "of 20 validation images of 'defect', where" in _refused(of_a_class)[1][0]
    assert (
        _refused(replace(worse, settings=worse.settings.model_copy(update={"max_drop": 0.5})))[0]
        == []
    )
    # One image of 31 may be chance, and so may four.
    for lost in (1, 4):
        cells = ((28 - lost, 0, True, True), (lost, 0, False, True), (3, 0, False, False))
        assert _refused(replace(_GOOD, compared=compared(*cells)))[0] == []


def test_rulings_name_what_was_measured_the_refusals_first() -> None:
    evidence = replace(
        _folds([342, 18], [342, 0]),
        compared=None,
        not_compared="there is no earlier blessed model to compare with",
    )
    decision = decide(evidence)
    assert [one["state"] for one in decision["rulings"]] == [
        *("refused", "refused", "passed", "silent", "silent", "passed")
    ]
    assert [one["rule"] for one in decision["rulings"]] == [
        *("class_recall", "commonest_class", "threshold", "evidence", "last_version", "serving")
    ]
    assert decision["rulings"][0]["text"] == (
        "the class with the fewest right answers in cross-validation is 'defect': 0.000 (0 of 18 "
        "images, 95 % interval 0.00–0.18); a model is refused where that is below 0.225 by more "
        "than chance"
    )
    assert "balanced accuracy 0.500" in decision["rulings"][2]["text"]
    assert decision["rulings"][4]["text"] == evidence.not_compared
    assert decision["balanced"] == 0.5


@pytest.mark.parametrize(
    "evidence",
    [
        _good([10, 10], [9, 10]),
        _good([40, 20], [36, 18]),
        _good([45, 4, 11], [45, 0, 11], _THREE),
        _folds([70, 70, 10], [70, 70, 0], _THREE, unlearned=[[2, 10]]),
    ],
    ids=["narrow enough", "at the threshold", "four images", "unlearned"],
)
def test_a_model_at_a_limit_passes(evidence: Evidence) -> None:
    assert decide(evidence)["failed"] == []


def test_with_a_threshold_of_zero_any_accuracy_is_blessed() -> None:
    evidence = _good([38, 2, 7], [38, 0, 0], _THREE)
    assert len(decide(evidence)["failed"]) == 3
    assert decide(replace(evidence, settings=_GOOD.settings.model_copy(update={"threshold": 0.0})))[
        "blessed"
    ]


def test_figures_that_just_miss_a_limit_have_enough_digits() -> None:
    missed = _good([5000, 5000], [4500, 4496])
    assert "validation accuracy 0.8996 (" in decide(missed)["figures"]
    by_folds = decide(_folds([5000, 5000], [4500, 4498]))
    assert "cross-validation accuracy 0.8998 (" in by_folds["figures"]


def test_images_unlike_their_class_refuse_the_model_until_they_are_accepted() -> None:
    paths = [{"path": f"good/cat.{n}.jpg"} for n in range(60)]
    unlike = [{"class": "good", "new": 70, "unlike": 60, "images": paths}]
    decision = decide(replace(_GOOD, unlike=unlike))
    text = (
        "60 of 70 new images of 'good' are unlike its old images (good/cat.0.jpg, good/cat.1.jpg, "
        "good/cat.2.jpg and 57 more)"
    )
    assert decision["failed"] == ["unlike_images"]
    assert decision["reasons"][0].startswith(f"{text}: correct the data")
    assert "--accept" in decision["reasons"][0]
    assert decision["unlike"] == unlike
    accepted = decide(replace(_GOOD, unlike=unlike, accepted=True))
    assert accepted["blessed"] is True
    assert f"{text}; they were accepted" in [one["text"] for one in accepted["rulings"]]


def _seen(seen: int, others: int, right: int, **values: object) -> Evidence:
    """Return the evidence of a model whose train has the families of so many validation images.

    The model is right for all of these, and for so many of the others.
    """
    rows = [
        answer(n, n % 2, n % 2, family=b"film %d" % (n // 4), seen_family=True) for n in range(seen)
    ]
    rows += [
        answer(seen + n, n % 2, n % 2 if n < right else 1 - n % 2, family=b"other %d" % n)
        for n in range(others)
    ]
    settings = EvaluateSettings(threshold=0.9, **values)
    return Evidence(settings, table(("good", "defect"), *rows))


def test_images_of_families_that_train_has_do_not_decide() -> None:
    decision = decide(_seen(400, 40, 28))
    assert decision["failed"] == ["threshold"]
    assert decision["figures"] == (
        "validation accuracy 0.700 (28 of 40 images correct, 95 % interval 0.55–0.82; only images "
        "of families that train does not have)"
    )
    assert decision["decided_by"]["count"] == 40
    assert decide(_seen(400, 40, 40))["blessed"]


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        (
            _seen(40, 0, 0),
            "train has images of the families of 40 of 40 validation images, and it has no others; "
            "put images of other families, such as other people or scenes, into validation",
        ),
        (
            _seen(40, 8, 8, cross_validate=0),
            "train has images of the families of 40 of 48 validation images, and its other images, "
            "8 families or single images, are too few; put images of other families, such as other "
            "people or scenes, into validation, or let folds decide with evaluate.cross_validate = "
            "-1",
        ),
    ],
    ids=["all", "too few others"],
)
def test_where_train_has_the_families_of_validation_no_number_is_compared(
    evidence: Evidence, reason: str
) -> None:
    decision = decide(replace(evidence, compared=_GOOD.compared, version=3))
    assert (decision["failed"], decision["reasons"]) == (["evidence"], [reason])
    assert decision["figures"] == "cannot be judged"
    assert (decision["decided_by"]["accuracy"], decision["decided_by"]["count"]) == (None, 0)
    assert [one["rule"] for one in decision["rulings"]] == ["evidence", "serving"]
    assert decision["publishing"] is None
    folds = made(Folds, **_FOLDS)
    answers = replace(evidence.answers, seen_family=np.zeros(len(evidence.answers), np.bool_))
    by_folds = decide(replace(evidence, answers=answers, folds=folds))
    assert by_folds["decided_by"]["count"] == len(evidence.answers), "folds judge all of them"


@pytest.mark.parametrize(
    ("evidence", "arguments"),
    [
        (_GOOD, []),
        (_good([250, 250], [217, 217]), ["--set", "evaluate.threshold=0.86"]),
        (_good([10, 10], [8, 8]), ["--set", "evaluate.threshold=0.73"]),
        (_good([342, 18], [342, 0]), ["--set", "evaluate.threshold=0"]),
        (replace(_GOOD, unserved="it answers otherwise"), None),
        (_good([0, 0], [0, 0]), None),
    ],
    ids=["blessed", "below", "few images", "one class", "not served", "nothing"],
)
def test_what_publishes_the_same_model_is_what_every_rule_passes(
    evidence: Evidence, arguments: list[str] | None
) -> None:
    assert decide(evidence)["publishing"] == arguments
    if arguments:
        threshold = float(arguments[-1].partition("=")[2])
        settings = evidence.settings.model_copy(update={"threshold": threshold})
        assert decide(replace(evidence, settings=settings))["blessed"]


def test_a_change_that_a_person_accepts_is_published_so() -> None:
    cells = ((38, 0, True, True), (2, 0, False, True), (10, 1, True, True), (10, 1, False, True))
    unlike = [{"class": "good", "new": 70, "unlike": 60, "images": []}]
    worse = replace(_GOOD, compared=compared(*cells), unlike=unlike)
    assert decide(worse)["publishing"] == ["--set", "evaluate.max_drop=1", "--accept"]


def test_a_rule_that_another_one_anticipates_has_nothing_to_say() -> None:
    rulings = {one["rule"]: one for one in decide(_good([10, 10], [8, 8]))["rulings"]}
    assert rulings["threshold"]["state"] == "refused"
    assert rulings["evidence"]["state"] == "silent"
    assert rulings["evidence"]["text"].endswith("begins at 0.58; it has to begin above 0.75")


def test_labels_by_chance_are_never_blessed() -> None:
    """The labels of families are random, and a model answers alike for the images of a family."""
    random = np.random.default_rng(0)
    for draw in range(300):
        classes = int(random.integers(2, 6))
        count = int(random.integers(1, 60))
        sizes = np.ceil(random.pareto(random.uniform(0.5, 3), count) + 1).astype(int)
        sizes = np.minimum(sizes, 200)
        of_families = random.integers(0, classes, (2, count))
        labels, predicted = (values.repeat(sizes) for values in of_families)
        families = np.arange(count).repeat(sizes)
        rows = [
            answer(number, int(label), int(predicted[number]), family=b"%d" % families[number])
            for number, label in enumerate(labels)
        ]
        vocabulary = [f"class {number}" for number in range(classes)]
        threshold = float(random.choice([0.9, 0.8, 0.7]))
        settings = EvaluateSettings(threshold=threshold)
        decision = decide(Evidence(settings, table(vocabulary, *rows)))
        assert not decision["blessed"], (draw, decision["figures"])
