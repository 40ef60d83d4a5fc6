"""Nothing to see: few tones, as in blank pages and placeholders."""

from __future__ import annotations

from imgpipe.components.image_file.measurements import LOW_INFORMATION
from imgpipe.components.image_filter.checks.quality.base import under

_BITS = 0.1  # scale of the entropy: ten bits are more than three channels of 8 bits ever have

CHECK = under(
    "low_information",
    lambda m: min(_BITS * m.entropy, 1.0),
    LOW_INFORMATION,
    "a tenth of the entropy in bits",
    "Hardly anything in it: few tones, blank pages",
)
