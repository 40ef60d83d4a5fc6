"""A computer-generated rock-paper-scissors set with planted faults, for `imgpipe demo`.

Every image is computed, so the set carries nobody's licence and needs no network. NumPy and
Pillow only: drawing can go on while TensorFlow is still being imported.
"""

from __future__ import annotations

from imgpipe.pipeline.demo.dataset import DemoSet, draw, draw_hand
from imgpipe.pipeline.demo.poses import LABELS

__all__ = ["LABELS", "DemoSet", "draw", "draw_hand"]
