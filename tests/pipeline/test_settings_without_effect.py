"""Tests that a run mentions the settings that have no effect beside the others."""

from __future__ import annotations

import pytest

from imgpipe.pipeline.command_line import settings as commands
from imgpipe.pipeline.configuration.config import build
from imgpipe.pipeline.configuration.toml_text import without_effect

SOLVED = 'the head is solved. Set train.optimizer = "adam" to train it by epochs.'
NO_SEARCH = "train.minutes has no effect: no better network is looked for beside"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ((), []),
        (("train.epochs=9",), [f"train.epochs has no effect: {SOLVED}"]),
        (("fine_tune.cut=block10", "fine_tune.mode=off"), ["fine_tune.cut has no effect: only"]),
        (("fine_tune.cut=block10", "fine_tune.epochs=2"), []),
        (("train.minutes=0",), []),
        (("train.minutes=0", "train.optimizer=adam"), []),
        (("train.minutes=30", "train.optimizer=adam"), [NO_SEARCH]),
        (("train.minutes=30", "evaluate.cross_validate=10"), [NO_SEARCH]),
        (("train.minutes=30", "model.freeze=none"), [NO_SEARCH]),
        (("views.count=0", "views.rotation=5"), ["views.rotation has no effect: views.count is 0"]),
        (("bank.budget=3", "model.freeze=none"), ["bank.budget has no effect: all layers"]),
    ],
)
def test_a_given_setting_without_effect_is_mentioned(
    settings: tuple[str, ...], expected: list[str]
):
    found = without_effect(build({}, settings))
    assert len(found) == len(expected), found
    for sentence, start in zip(found, expected, strict=True):
        assert sentence.startswith(start)


@pytest.mark.parametrize("preset", commands.presets())
def test_every_setting_of_a_preset_has_an_effect(preset: str):
    assert without_effect(commands.configuration(preset, None, None, [])) == []
