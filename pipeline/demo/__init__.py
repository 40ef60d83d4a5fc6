"""A computer-generated rock-paper-scissors set with planted faults, for `imgpipe demo`.

Every image is computed, so the set has no licence of other people and needs no network. The package
uses NumPy and Pillow only, so images can be drawn while TensorFlow is still being imported.
"""

from __future__ import annotations

from imgpipe.pipeline.demo.dataset import FAULTS, draw, draw_hand
from imgpipe.pipeline.demo.hands import LABELS

__all__ = ["FAULTS", "LABELS", "draw", "draw_hand"]
