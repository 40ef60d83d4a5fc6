"""Tests that invalid settings and vocabularies are refused where they are read."""

import pytest
from pydantic import ValidationError

from imgpipe.models.errors import ConfigError
from imgpipe.models.settings.model import check_vocabulary
from tests.network_settings import network_settings


@pytest.mark.parametrize(
    ("activation", "classes", "expected"),
    [("auto", 2, True), ("auto", 3, False), ("softmax", 2, False), ("sigmoid", 2, True)],
)
def test_two_classes_have_one_unit_unless_softmax_is_set(activation, classes, expected) -> None:
    assert network_settings(activation=activation).one_unit(classes) is expected


@pytest.mark.parametrize(
    "vocabulary", [[], ["a"], ["b", "a"], ["a", "a"], ["", "a"], ["a", "b\nc"], ["a", "b\u2028"]]
)
def test_a_vocabulary_that_cannot_be_written_is_refused(vocabulary: list[str]) -> None:
    with pytest.raises(ConfigError, match="Received"):
        check_vocabulary(vocabulary)


def test_a_vocabulary_may_contain_any_script() -> None:
    assert check_vocabulary(["Katze", "le chien", "犬"]) == ("Katze", "le chien", "犬")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"feature_dropout": 0.2}, "course.hidden_units is 0"),
        (
            {"backbone": "conv_8_8", "weights": "none", "fine_tune": {"mode": "on"}},
            "every layer trains from the start",
        ),
        ({"backbone": "efficientnet_lite"}, "unknown backbone"),
    ],
)
def test_settings_without_effect_are_refused(settings, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        network_settings(**settings)


def test_class_names_that_contradict_the_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="sigmoid needs two classes, the vocabulary has 3"):
        network_settings(activation="sigmoid").check_classes(["a", "b", "c"])
