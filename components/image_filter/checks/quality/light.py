"""Too light: all but the darkest twentieth of the pixels are white."""

from __future__ import annotations

from imgpipe.components.image_file.measurements import LIGHT
from imgpipe.components.image_filter.checks.quality.base import under

CHECK = under(
    "light",
    lambda m: 1 - m.brightness_p5,
    LIGHT,
    "darkness that the darkest 5 % exceed",
    "Too light to show much",
)
