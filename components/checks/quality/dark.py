"""Too dark: even the brightest hundredth of the pixels shows little."""

from __future__ import annotations

from components.checks.quality.base import under
from components.sources.measuring import DARK

CHECK = under(
    "dark",
    lambda m: m.brightness_p99,
    DARK,
    "luminance that the brightest 1 % exceed",
    "Too dark to show much",
)
