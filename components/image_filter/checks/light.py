"""Light images: all except the darkest 5 % of the pixels are almost white."""

from __future__ import annotations

from imgpipe.components.image_filter.checks.quality import below
from imgpipe.models import feature_names as names

CHECK = below(
    "light",
    order=150,
    feature=names.BRIGHTNESS_P5,
    measure=lambda pixels: pixels.tones.percentile(0.05),
    score=lambda brightness: 1 - brightness,
    threshold=0.05,
    about="darkness that the darkest 5 % exceed",
    finds="Too light",
)
