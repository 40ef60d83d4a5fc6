"""Blurred: hardly an edge left, even at the size of a thumbnail."""

from __future__ import annotations

from components.checks.quality.base import under

CHECK = under("blurry", lambda m: m.sharpness, 0.29, "sharpness", "Blurred, even at 64 pixels")
