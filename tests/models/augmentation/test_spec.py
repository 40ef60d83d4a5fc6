"""Settings of views: limits, messages, addresses."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from imgpipe.models.augmentation import ViewSpec
from imgpipe.models.errors import ConfigError
from imgpipe.pipeline.config import Config, build
from imgpipe.pipeline.config_schema import Views

_CHANGES = {
    "vertical_flip": True,
    "scale": 0.5,
    "brightness": 0.1,
    "contrast": 0.1,
    "saturation": 0.1,
    "hue": 0.1,
    "erasing": 0.2,
}


def test_the_address_of_the_course_views_is_that_of_banks_made_before_there_were_others() -> None:
    assert json.loads(ViewSpec().key()) == {
        "rotation": 40.0,
        "shifts": 0.2,
        "shear": 0.2,
        "zoom": 0.2,
        "horizontal_flip": True,
        "fill": "nearest",
        "version": "1",
    }


def test_every_further_change_has_an_address_of_its_own_while_it_is_on() -> None:
    plain = ViewSpec()
    keys = {replace(plain, **{name: value}).key() for name, value in _CHANGES.items()}
    assert len(keys | {plain.key()}) == len(_CHANGES) + 1
    assert replace(plain, brightness=0, erasing=0.0).key() == plain.key()


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("brightness", 1.5, "0 to 1"),
        ("hue", float("nan"), "0 to 0.5"),
        ("hue", 0.6, "0 to 0.5"),
        ("erasing", -0.1, "0 to 0.9"),
        ("scale", "big", "0 to 3"),
        ("rotation", True, "0 to 180"),
        ("count", 2.5, "a whole number from 0 to 32"),
        ("count", 33, "a whole number from 0 to 32"),
        ("vertical_flip", 1, "true or false"),
        ("fill", "black", "one of nearest, reflect, wrap, constant"),
    ],
)
def test_an_odd_value_is_named_with_what_was_expected(setting, value, expected) -> None:
    with pytest.raises(ConfigError) as caught:
        ViewSpec(**{setting: value})
    assert str(caught.value) == f"views.{setting}: expected {expected}. Received: {value!r}"


def test_the_section_is_made_of_the_settings_with_the_same_defaults_and_limits() -> None:
    section = Config().views
    assert section.spec == ViewSpec()
    names = [one.name for one in fields(ViewSpec)]
    assert list(Views.model_fields) == [*names, "mixup", "cutmix"]
    assert all(info.description for info in Views.model_fields.values())
    for one in fields(ViewSpec):
        if "high" in one.metadata:
            with pytest.raises(ConfigError, match=rf"views\.{one.name}: .*Received"):
                build({"views": {one.name: one.metadata["high"] + 1}})


def test_settings_reach_the_spec_and_an_unknown_one_is_refused() -> None:
    config = build({"views": {"hue": 0.1}}, ["views.erasing=0.3", "views.mixup=0.2"])
    assert config.views.spec == ViewSpec(hue=0.1, erasing=0.3)
    assert config.views.mixing.mixup == 0.2
    with pytest.raises(ConfigError, match=r"unknown key 'views.brightnes'.*'views.brightness'"):
        build({}, ["views.brightnes=1"])
