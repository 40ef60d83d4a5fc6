"""Nothing to see: few tones, as in blank pages and placeholders."""

from __future__ import annotations

from imgpipe.components.image_filter.checks.quality import below
from imgpipe.models import feature_names as names

_BITS = 0.1  # scale of the entropy: ten bits are more than three channels of 8 bits ever have

CHECK = below(
    "low_information",
    order=160,
    feature=names.ENTROPY,
    measure=lambda pixels: pixels.tones.entropy,
    score=lambda entropy: min(_BITS * entropy, 1.0),
    threshold=0.3,
    about="a tenth of the entropy in bits",
    finds="Hardly anything in it: few tones, blank pages",
)
