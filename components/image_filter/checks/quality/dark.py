"""Too dark: even the brightest hundredth of the pixels shows little."""

from __future__ import annotations

from imgpipe.components.image_file.measurements import DARK
from imgpipe.components.image_filter.checks.quality.base import under

CHECK = under(
    "dark",
    lambda m: m.brightness_p99,
    DARK,
    "luminance that the brightest 1 % exceed",
    "Too dark to show much",
)
