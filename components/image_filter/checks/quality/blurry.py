"""Blurred: hardly an edge left, even at the size of a thumbnail."""

from __future__ import annotations

from imgpipe.components.image_file.measurements import BLURRY
from imgpipe.components.image_filter.checks.quality.base import under

CHECK = under("blurry", lambda m: m.sharpness, BLURRY, "sharpness", "Blurred, even at 64 pixels")
