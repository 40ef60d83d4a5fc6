"""Tests of settings by their full names."""

from imgpipe.pipeline.configuration import config, flat_settings


def test_only_settings_that_differ_from_the_defaults_are_changed():
    assert flat_settings.changed(config.build({}, [])) == {}
    settings = ["train.epochs=3", "judge.severity.alpha=reject", "run.out=/elsewhere"]
    changed = flat_settings.changed(config.build({}, settings))
    assert changed == {"train.epochs": 3, "judge.severity.alpha": "reject"}
