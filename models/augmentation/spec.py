"""Settings of the augmentation, their limits, and their content address."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Final

from imgpipe.models import bounds
from imgpipe.models.bounds import bounded, chosen, switch

#: Part of a view's content address; raise it when the same settings give other pixels.
AUGMENTATION_VERSION: Final = "1"

FILLS: Final = ("nearest", "reflect", "wrap", "constant")

_STEP: Final = 32  # what networks divide a side by, as a rule

#: In every address. The others are only where they are on, so that adding one moves no address.
_ALWAYS: Final = (
    *("rotation", "shifts", "shear", "zoom"),
    *("horizontal_flip", "fill"),
)


@dataclass(frozen=True)
class ViewSpec:
    """How many augmented views a training image gets and how much they differ from it.

    The defaults are the course's augmentation; all that it does not have is off. A range r means
    uniform in [-r, r].
    """

    count: int = bounded(4, "Augmented views per image.", 0, 32)
    rotation: float = bounded(40.0, "Degrees, to either side.", 0, 180)
    shifts: float = bounded(0.2, "Share of width and height, either way.", 0, 1)
    shear: float = bounded(0.2, "Horizontal shear factor, either way.", 0, 1)
    zoom: float = bounded(
        0.2, "Zoom in or out by up to this share, width and height each by itself.", 0, 0.99
    )
    horizontal_flip: bool = switch(True, "Mirror every other view.")
    vertical_flip: bool = switch(False, "Put every other view upside down.")
    scale: float = bounded(
        0.0, "Size of the whole picture: up to 1 + this times larger or smaller.", 0, 3
    )
    fill: str = chosen(
        "nearest", "What lies outside the picture: nearest, reflect, wrap or constant.", FILLS
    )
    brightness: float = bounded(0.0, "Share of white added or taken away, at most.", 0, 1)
    contrast: float = bounded(
        0.0, "More or less contrast by up to this share, about the picture's mean.", 0, 1
    )
    saturation: float = bounded(0.0, "More or less colour by up to this share.", 0, 1)
    hue: float = bounded(0.0, "Part of the colour circle, either way; 0.5 is any colour.", 0, 0.5)
    erasing: float = bounded(
        0.0, "Every other view loses a rectangle to noise, up to this share of its area.", 0, 0.9
    )

    multi_scale: float = bounded(
        0.0,
        "The backbone sees every third view this share smaller, every third larger than "
        "image_size, in steps of 32 pixels; for heads on pooled features.",
        0,
        0.5,
    )

    def __post_init__(self) -> None:
        bounds.check("views", self)

    def side(self, view: int, image_size: int) -> int:
        """Returns the side in pixels at which the backbone sees a view; view 0 has `image_size`."""
        turn = view % 3 - 1 if view else 0
        if not turn or not self.multi_scale:
            return image_size
        return max(1, round(image_size * (1 + turn * self.multi_scale) / _STEP)) * _STEP

    @property
    def colours(self) -> bool:
        """Whether any setting of the colours is on."""
        return any((self.brightness, self.contrast, self.saturation, self.hue))

    def key(self) -> str:
        """Returns a stable string of all settings of a view; `count` is not part of it."""
        settings: dict[str, object] = {"version": AUGMENTATION_VERSION}
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name in _ALWAYS or (one.name != "count" and value != one.default):
                # 40 and 40.0 are the same warp
                settings[one.name] = float(value) if isinstance(one.default, float) else value
        return json.dumps(settings, sort_keys=True)
