"""The decision about a model: each rule refuses with its reason, and nothing else does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from imgpipe.components.image_evaluator.rules import RULES, Counts, Evidence, decide

_GOOD = Evidence(
    ["good", "defect"],
    {"threshold": 0.9, "max_drop": 0.01},
    Counts([40, 20], [39, 21], 57),
    baseline=0.95,
    version=3,
)
_FOLDS = {
    "folds": 5,
    "mean": 0.948,
    "std": 0.021,
    "min": 0.92,
    "max": 0.975,
    "images": 150,
    "correct": 142,
    "labels": [100, 50],
    "predicted": [102, 48],
}


def _folds(**values: object) -> Evidence:
    """Return the evidence of a model on which folds decide."""
    return replace(_GOOD, folds={**_FOLDS, **values})


def test_a_model_that_passes_every_rule_is_blessed_with_its_figures() -> None:
    decision = decide(_GOOD)
    assert decision["blessed"] is True
    assert (decision["failed"], decision["reasons"]) == ([], [])
    assert decision["figures"] == (
        "validation accuracy 0.950 (57 of 60 correct, 95 % interval 0.86–0.98)"
    )
    assert (decision["value"], decision["count"], decision["correct"]) == (0.95, 60, 57)
    by_folds = decide(_folds())
    assert by_folds["blessed"] is True
    assert by_folds["figures"] == (
        "mean accuracy 0.948 ± 0.021 over 5 folds (0.920 to 0.975; 142 of 150 correct)"
    )
    assert by_folds["folds"] == {key: _FOLDS[key] for key in by_folds["folds"]}


@pytest.mark.parametrize(
    ("evidence", "failed", "reason"),
    [
        (
            replace(_GOOD, validation=Counts([40, 20], [40, 20], 53), baseline=None),
            "threshold",
            "it is below the threshold 0.9",
        ),
        (_folds(mean=0.8998), "threshold", "it is below the threshold 0.9"),
        (
            replace(_GOOD, validation=Counts([0, 0], [0, 0], 0), baseline=None),
            "threshold",
            "no validation image was evaluated",
        ),
        (
            replace(_GOOD, baseline=0.9613),
            "baseline",
            "validation accuracy 0.950 is below 0.961, which version 3 reached",
        ),
        (
            replace(_folds(), baseline=0.9613),
            "baseline",
            "validation accuracy 0.950 is below 0.961, which version 3 reached",
        ),
        (
            replace(_GOOD, validation=Counts([380, 20], [379, 21], 379), baseline=None),
            "commonest_class",
            "it is not better than always answering 'good', which is right for 380 of 400 images",
        ),
        (
            _folds(images=360, correct=342, labels=[342, 18], predicted=[350, 10]),
            "commonest_class",
            "it is not better than always answering 'good', which is right for 342 of 360 images",
        ),
        (
            replace(
                _GOOD,
                vocabulary=["good", "rare", "defect"],
                validation=Counts([95, 5, 5], [99, 6, 0], 100),
                baseline=None,
            ),
            "never_predicted",
            "it never predicts 'defect', although 5 images of it were held out",
        ),
        (
            replace(
                _folds(labels=[100, 45, 5], predicted=[105, 45, 0]),
                vocabulary=["good", "rare", "defect"],
                validation=Counts([30, 29, 1], [30, 30, 0], 59),
            ),
            "never_predicted",
            "it never predicts 'defect', although 5 images of it were held out",
        ),
        (
            replace(_GOOD, unserved="the serving check 'answers' failed: NOT_FOUND"),
            "serving",
            "the serving check 'answers' failed: NOT_FOUND",
        ),
    ],
)
def test_each_rule_refuses_with_its_reason(evidence: Evidence, failed: str, reason: str) -> None:
    decision = decide(evidence)
    assert decision["blessed"] is False
    assert (decision["failed"], decision["reasons"]) == ([failed], [reason])
    assert failed in RULES


def test_good_and_defect_drawn_at_random_are_not_blessed() -> None:
    constant = replace(_GOOD, validation=Counts([38, 2], [40, 0], 38), baseline=None)
    assert decide(constant)["failed"] == ["commonest_class"]
    folds = _folds(mean=0.95, images=360, correct=342, labels=[342, 18], predicted=[360, 0])
    decision = decide(replace(folds, validation=constant.validation, baseline=None))
    assert decision["failed"] == ["commonest_class", "never_predicted"]
    assert decision["reasons"][1] == (
        "it never predicts 'defect', although 18 images of it were held out"
    )


@pytest.mark.parametrize(
    "evidence",
    [
        replace(_GOOD, validation=Counts([18, 2], [18, 2], 19), baseline=0.91),
        replace(_GOOD, baseline=0.96),
        replace(_GOOD, validation=Counts([40, 20], [39, 21], 54), baseline=None),
        replace(
            _GOOD,
            vocabulary=["good", "rare", "defect"],
            validation=Counts([45, 4, 11], [49, 0, 11], 56),
            baseline=None,
        ),
        replace(
            _folds(labels=[70, 70, 10], predicted=[75, 75, 0], unlearned=[[2, 10]]),
            vocabulary=["good", "rare", "defect"],
            validation=Counts([30, 29, 1], [30, 30, 0], 59),
        ),
    ],
    ids=["commonest by one", "drop as allowed", "at the threshold", "four images", "unlearned"],
)
def test_a_model_at_a_limit_passes(evidence: Evidence) -> None:
    assert decide(evidence)["failed"] == []


def test_with_a_threshold_of_zero_any_accuracy_is_blessed() -> None:
    constant = Counts([38, 2, 7], [47, 0, 0], 38)
    evidence = replace(_GOOD, vocabulary=["a", "b", "c"], validation=constant, baseline=None)
    assert len(decide(evidence)["failed"]) == 3
    assert decide(replace(evidence, settings={"threshold": 0.0, "max_drop": 0.01}))["blessed"]


def test_figures_that_just_miss_a_limit_have_enough_digits() -> None:
    missed = replace(_GOOD, validation=Counts([5000, 5000], [5000, 5000], 8996), baseline=None)
    assert "validation accuracy 0.8996 (" in decide(missed)["figures"]
    assert "mean accuracy 0.8998 ± " in decide(_folds(mean=0.8998))["figures"]
    near = replace(_GOOD, validation=Counts([5000, 5000], [5000, 5000], 9503), baseline=0.95042)
    (reason,) = decide(replace(near, settings={"threshold": 0.9, "max_drop": 0.0}))["reasons"]
    assert reason == "validation accuracy 0.9503 is below 0.9504, which version 3 reached"
