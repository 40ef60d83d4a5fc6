"""The decision about a model: each rule refuses with its reason, and nothing else does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from imgpipe.components.common.counts import Counts
from imgpipe.components.common.shares import accuracy_figures
from imgpipe.components.image_evaluator.evidence import Evidence, Pairs
from imgpipe.components.image_evaluator.rules import RULES, decide
from imgpipe.components.image_evaluator.settings import EvaluateSettings
from imgpipe.models.training.cross_validation import Folds
from tests.declared import made

_GOOD = Evidence(
    ["good", "defect"],
    EvaluateSettings(threshold=0.9, max_drop=0.01),
    Counts([40, 20], [39, 21], [38, 19]),
    Pairs([40, 20], [38, 19], [38, 20], [0, 0]),
    version=3,
)
_FOLDS = {
    "folds": 5,
    "std": 0.021,
    "min": 0.92,
    "max": 0.975,
    "images": 150,
    "correct": 142,
    "labels": [100, 50],
    "predicted": [102, 48],
    "right": [97, 45],
    "groups": 150,
}


def _folds(**values: object) -> Evidence:
    """Return the evidence of a model on which folds decide."""
    folds = {**_FOLDS, **values}
    return replace(_GOOD, folds=made(Folds, **folds, families=folds["labels"]))


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
        "cross-validation accuracy 0.947 (142 of 150 images correct, 95 % interval 0.90–0.97; 5 "
        "folds from 0.920 to 0.975)"
    )
    assert by_folds["decided_by"] == {
        "kind": "folds",
        **accuracy_figures(142, 150),
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
        (
            replace(_GOOD, validation=Counts([40, 20], [40, 20], [35, 18]), pairs=None),
            "threshold",
            "it is below the threshold 0.9",
        ),
        (_folds(right=[90, 44], correct=134), "threshold", "it is below the threshold 0.9"),
        (
            replace(_GOOD, validation=Counts([0, 0], [0, 0], [0, 0]), pairs=None),
            "threshold",
            "no validation image was evaluated",
        ),
        (
            replace(_GOOD, validation=Counts([380, 20], [379, 21], [369, 10]), pairs=None),
            "commonest_class",
            "it is not better than always answering 'good', which is right for 380 of 400 images",
        ),
        (
            _folds(images=360, labels=[342, 18], predicted=[350, 10], right=[337, 5]),
            "commonest_class",
            "it is not better than always answering 'good', which is right for 342 of 360 images",
        ),
        (
            replace(
                _GOOD,
                vocabulary=["good", "rare", "defect"],
                validation=Counts([95, 5, 5], [99, 6, 0], [95, 5, 0]),
                pairs=None,
            ),
            "class_recall",
            "it never predicts 'defect', although 5 images of it were held out",
        ),
        (
            replace(
                _folds(labels=[100, 45, 5], predicted=[105, 45, 0], right=[98, 44, 0]),
                vocabulary=["good", "rare", "defect"],
                validation=Counts([30, 29, 1], [30, 30, 0], [30, 29, 0]),
            ),
            "class_recall",
            "it never predicts 'defect', although 5 images of it were held out",
        ),
        (
            replace(
                _GOOD,
                vocabulary=["good", "rare", "defect"],
                validation=Counts([300, 30, 30], [328, 30, 2], [300, 30, 1]),
                pairs=None,
            ),
            "class_recall",
            "the recall of 'defect' is surely below 0.225 (evaluate.min_recall): 1 of 30 images, "
            "95 % interval 0.01–0.17",
        ),
        (
            replace(
                _GOOD,
                vocabulary=["good", "rare", "defect"],
                validation=Counts([300, 2, 30], [328, 2, 2], [300, 0, 1]),
                pairs=None,
            ),
            "class_recall",
            "the recall of 'defect' is surely below 0.225 (evaluate.min_recall): 1 of 30 images, "
            "95 % interval 0.01–0.17",
        ),
        (
            replace(_GOOD, unserved="the serving check 'answers' failed: NOT_FOUND"),
            "serving",
            "the serving check 'answers' failed: NOT_FOUND",
        ),
    ],
)
def test_each_rule_refuses_with_its_reason(evidence: Evidence, failed: str, reason: str) -> None:
    assert _refused(evidence) == ([failed], [reason])


def test_a_model_that_is_surely_worse_than_the_last_version_is_refused() -> None:
    worse = replace(_GOOD, pairs=Pairs([40, 20], [38, 10], [40, 18], [0, 0]))
    failed, (reason,) = _refused(worse)
    assert failed == ["last_version"]
    assert reason == (
        "it is worse than the last version by more than chance and 0.01 (evaluate.max_drop): right "
        "for 48 of 60 validation images, where version 3 is right for 58, both by networks that "
        "were not trained on them; 95 % interval of the difference -0.26 to -0.06"
    )
    of_a_class = replace(_GOOD, pairs=Pairs([90, 20], [90, 12], [80, 20], [10, 0]))
    assert "of 20 validation images of 'defect', where" in _refused(of_a_class)[1][0]
    assert (
        _refused(replace(worse, settings=worse.settings.model_copy(update={"max_drop": 0.5})))[0]
        == []
    )
    # One image of 31 may be chance, and so may four.
    for right in (27, 24):
        assert _refused(replace(_GOOD, pairs=Pairs([31, 0], [right, 0], [28, 0], [0, 0])))[0] == []


def test_rulings_name_what_was_measured_the_worst_first() -> None:
    evidence = replace(
        _folds(images=360, labels=[342, 18], predicted=[360, 0], right=[342, 0]),
        pairs=None,
        not_compared="there is no earlier blessed model to compare with",
    )
    decision = decide(evidence)
    assert [one["rule"] for one in decision["rulings"]] == [
        *("class_recall", "commonest_class", "threshold", "last_version", "serving")
    ]
    assert decision["rulings"][0]["text"] == (
        "lowest recall of a class 0.000, of 'defect' (0 of 18 images, 95 % interval 0.00–0.18); "
        "the interval must reach 0.225"
    )
    assert "balanced accuracy 0.500" in decision["rulings"][2]["text"]
    assert decision["rulings"][3]["text"] == evidence.not_compared
    assert decision["balanced"] == 0.5


def test_good_and_defect_drawn_at_random_are_not_blessed() -> None:
    constant = replace(_GOOD, validation=Counts([38, 2], [40, 0], [38, 0]), pairs=None)
    assert decide(constant)["failed"] == ["commonest_class"]


@pytest.mark.parametrize(
    "evidence",
    [
        replace(_GOOD, validation=Counts([18, 2], [18, 2], [17, 2])),
        replace(_GOOD, validation=Counts([40, 20], [39, 21], [36, 18])),
        replace(
            _GOOD,
            vocabulary=["good", "rare", "defect"],
            validation=Counts([45, 4, 11], [49, 0, 11], [45, 0, 11]),
            pairs=None,
        ),
        replace(
            _folds(
                labels=[70, 70, 10],
                predicted=[75, 75, 0],
                right=[70, 70, 0],
                unlearned=[[2, 10]],
            ),
            vocabulary=["good", "rare", "defect"],
            validation=Counts([30, 29, 1], [30, 30, 0], [30, 29, 0]),
            pairs=None,
        ),
    ],
    ids=["commonest by one", "at the threshold", "four images", "unlearned"],
)
def test_a_model_at_a_limit_passes(evidence: Evidence) -> None:
    assert decide(evidence)["failed"] == []


def test_with_a_threshold_of_zero_any_accuracy_is_blessed() -> None:
    constant = Counts([38, 2, 7], [47, 0, 0], [38, 0, 0])
    evidence = replace(_GOOD, vocabulary=["a", "b", "c"], validation=constant, pairs=None)
    assert len(decide(evidence)["failed"]) == 3
    assert decide(replace(evidence, settings=_GOOD.settings.model_copy(update={"threshold": 0.0})))[
        "blessed"
    ]


def test_figures_that_just_miss_a_limit_have_enough_digits() -> None:
    missed = replace(_GOOD, validation=Counts([5000, 5000], [5000, 5000], [4500, 4496]))
    assert "validation accuracy 0.8996 (" in decide(missed)["figures"]
    by_folds = decide(_folds(labels=[5000, 5000], right=[4500, 4498], groups=10_000))
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
