"""Tests of the settings of views: limits, messages and fingerprints."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from pydantic import ValidationError

from imgpipe.models.augmentation import ViewSpec
from imgpipe.models.errors import ConfigError
from imgpipe.models.limits import declared
from imgpipe.pipeline.configuration.config import Config, build

_CHANGES = {
    "vertical_flip": True,
    "scale": 0.5,
    "brightness": 0.1,
    "contrast": 0.1,
    "saturation": 0.1,
    "hue": 0.1,
}


def test_the_key_of_the_course_views_has_no_later_settings() -> None:
    assert json.loads(ViewSpec().key()) == {
        "rotation": 40.0,
        "shifts": 0.2,
        "shear": 0.2,
        "zoom": 0.2,
        "horizontal_flip": True,
        "fill": "nearest",
    }


def test_every_later_augmentation_changes_the_key_only_while_it_is_on() -> None:
    plain = ViewSpec()
    keys = {replace(plain, **{name: value}).key() for name, value in _CHANGES.items()}
    assert len(keys | {plain.key()}) == len(_CHANGES) + 1
    assert replace(plain, brightness=0).key() == replace(plain, count=9).key() == plain.key()


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("brightness", 1.5, "less than or equal to 1"),
        ("hue", float("nan"), "finite number"),
        ("contrast", -0.1, "greater than or equal to 0"),
        ("scale", "big", "a valid number"),
        ("count", 2.5, "a valid integer"),
        ("vertical_flip", 2, "a valid boolean"),
        ("fill", "black", "'nearest', 'reflect', 'wrap' or 'constant'"),
        ("brightnes", 0.1, "Unexpected keyword argument"),
    ],
)
def test_an_invalid_value_is_named_with_what_was_expected(setting, value, expected) -> None:
    with pytest.raises(ValidationError, match=f"(?s){setting}.*{expected}.*input_value={value!r}"):
        ViewSpec(**{setting: value})


def test_the_section_views_has_the_settings_of_views() -> None:
    section = Config().views
    assert section.spec == ViewSpec()
    assert list(declared(section)) == list(declared(ViewSpec))
    assert all(info.description for info in declared(section).values())
    with pytest.raises(ConfigError, match=r"views\.rotation: input should be less .*Received: 181"):
        build({"views": {"rotation": 181}})


def test_settings_reach_the_spec_and_an_unknown_one_is_refused() -> None:
    config = build(
        {"views": {"hue": 0.1}, "train": {"optimizer": "adam"}},
        ["views.contrast=0.3"],
    )
    assert config.settings.views == ViewSpec(hue=0.1, contrast=0.3)
    with pytest.raises(ConfigError, match=r"unknown key 'views.brightnes'.*'views.brightness'"):
        build({}, ["views.brightnes=1"])


@pytest.mark.parametrize(
    ("changed", "count", "chosen"),
    [
        ({}, 4, True),
        ({"model": {"hidden_units": 64}}, 4, False),
        ({"fine_tune": {"mode": "auto"}}, 4, False),
        ({"train": {"optimizer": "adam"}}, 4, False),
        ({"views": {"count": 2}}, 2, False),
        ({"views": {"count": 0}}, 0, False),
    ],
    ids=str,
)
def test_a_number_of_views_that_is_set_is_not_searched(changed, count, chosen) -> None:
    config = build(changed)
    assert config.settings.views.count == count
    assert config.chooses_views == chosen
