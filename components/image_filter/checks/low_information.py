"""Images with few tones, such as blank pages and placeholders."""

from __future__ import annotations

from imgpipe.components.image_filter.checks.quality import below
from imgpipe.models import feature_names as names

_BITS = 0.1  # scale of the entropy; images of three 8-bit channels always have less than ten bits

CHECK = below(
    "low_information",
    order=160,
    feature=names.ENTROPY,
    measure=lambda pixels: pixels.tones.entropy,
    score=lambda entropy: min(_BITS * entropy, 1.0),
    threshold=0.3,
    about="variety of tones (a tenth of their entropy in bits)",
    finds="Few tones, such as blank pages",
)
