"""Tests of the lines that describe the networks that a search has tried."""

from __future__ import annotations

import pytest

from imgpipe.models.search.tried import line

HEAD = {
    "what": "head on frozen features",
    "accuracy": 0.8983,
    "gain": None,
    "standard_error": None,
    "seconds": 8.2,
    "kept": True,
    "failure": None,
}
TUNED = {
    "what": "layers above block8_project",
    "judged_by": "validation",
    "accuracy": 0.995,
    "gain": 0.0967,
    "standard_error": 0.0151,
    "seconds": 151.0,
    "kept": True,
    "failure": None,
}
FOLDED = {**TUNED, "judged_by": "folds"}
FAILED = {**TUNED, "accuracy": None, "gain": None, "standard_error": None, "kept": False}


@pytest.mark.parametrize(
    ("tried", "expected"),
    [
        (HEAD, "head on frozen features: validation accuracy 0.898, 8 s"),
        (
            TUNED,
            "layers above block8_project: validation accuracy 0.995 "
            "(+0.097, standard error 0.015), 151 s, kept",
        ),
        (
            FOLDED,
            "layers above block8_project: cross-validation accuracy 0.995 "
            "(+0.097, standard error 0.015), 151 s, kept",
        ),
        (
            {**FAILED, "failure": "diverged"},
            "layers above block8_project: diverged, 151 s, not kept",
        ),
        (
            {**FAILED, "failure": "memory"},
            "layers above block8_project: memory ran out, 151 s, not kept",
        ),
    ],
)
def test_a_line_has_the_layers_the_accuracy_the_gain_and_the_time(tried, expected: str) -> None:
    assert line(tried) == expected
