"""Settings that carry their own limits."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from imgpipe.models import bounds
from imgpipe.models.errors import ConfigError


@dataclass(frozen=True)
class Oven:
    heat: float = bounds.bounded(180.0, "Degrees.", 50, 250)
    trays: int = bounds.bounded(1, "Trays in it.", 0, 3)
    fan: bool = bounds.switch(True, "Whether air is moved.")
    light: str = bounds.chosen("off", "The lamp.", ("on", "off"))

    def __post_init__(self) -> None:
        bounds.check("oven", self)


@pytest.mark.parametrize(
    "right", [{}, {"heat": 50}, {"heat": 250.0}, {"trays": 0}, {"fan": False}, {"light": "on"}]
)
def test_both_ends_are_allowed(right) -> None:
    Oven(**right)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"heat": 49.9}, "oven.heat: expected 50 to 250. Received: 49.9"),
        ({"heat": float("inf")}, "oven.heat: expected 50 to 250. Received: inf"),
        ({"heat": None}, "oven.heat: expected 50 to 250. Received: None"),
        ({"trays": 1.0}, "oven.trays: expected a whole number from 0 to 3. Received: 1.0"),
        ({"trays": True}, "oven.trays: expected a whole number from 0 to 3. Received: True"),
        ({"fan": "yes"}, "oven.fan: expected true or false. Received: 'yes'"),
        ({"light": "dim"}, "oven.light: expected one of on, off. Received: 'dim'"),
        ({"light": ["on"]}, "oven.light: expected one of on, off. Received: ['on']"),
    ],
)
def test_what_is_wrong_is_named(wrong, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Oven(**wrong)
    assert str(caught.value) == expected
