"""Dark images: even the brightest 1 % of the pixels are dark."""

from __future__ import annotations

from imgpipe.components.image_filter.checks.quality import below
from imgpipe.models import feature_names as names

CHECK = below(
    "dark",
    order=140,
    feature=names.BRIGHTNESS_P99,
    measure=lambda pixels: pixels.tones.percentile(0.99),
    threshold=0.32,
    about="luminance that the brightest 1 % exceed",
    finds="Too dark",
)
