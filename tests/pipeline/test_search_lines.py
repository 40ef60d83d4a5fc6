"""Tests of the lines that ``imgpipe run`` prints about the search for a better network."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgpipe.pipeline.commands import run

HEAD = {
    "what": "head on frozen features",
    "accuracy": 0.8983,
    "gain": None,
    "standard_error": None,
    "seconds": 8.2,
    "kept": True,
}
TUNED = {
    "what": "layers above block8_project",
    "accuracy": 0.995,
    "gain": 0.0967,
    "standard_error": 0.0151,
    "seconds": 151.0,
    "kept": True,
}
DIVERGED = {**TUNED, "accuracy": None, "kept": False}


@pytest.mark.parametrize(
    ("tried", "line"),
    [
        (HEAD, "head on frozen features: validation accuracy 0.898, 8 s"),
        (
            TUNED,
            "layers above block8_project: validation accuracy 0.995 "
            "(+0.097, standard error 0.015), 151 s, kept",
        ),
        (DIVERGED, "layers above block8_project: diverged, 151 s, not kept"),
    ],
)
def test_a_line_has_the_layers_the_accuracy_the_gain_and_the_time(tried, line: str) -> None:
    assert run.search_line(tried) == line


def test_train_minutes_and_cross_validation_decide_whether_there_is_a_search(
    tmp_path: Path,
) -> None:
    from imgpipe.pipeline.command_line.settings import configuration

    config = configuration(None, str(tmp_path), None, ["train.minutes=2.5"])
    assert config.train.minutes == 2.5
    assert config.settings.searches
    assert not configuration(None, str(tmp_path), None, ["train.minutes=0"]).settings.searches
    folds = configuration(None, str(tmp_path), None, ["evaluate.cross_validate=5"])
    assert not folds.settings.searches, "they judge heads"
