"""Blurred: hardly an edge left, even at the size of a thumbnail."""

from __future__ import annotations

from components.checks.quality.base import under
from components.sources.measuring import BLURRY

CHECK = under("blurry", lambda m: m.sharpness, BLURRY, "sharpness", "Blurred, even at 64 pixels")
