"""Settings of the augmentation, their limits, and the key under which views are stored."""

from __future__ import annotations

import json
from typing import Final, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from imgpipe.models.limits import STRICT, declared

#: Part of the key of every view; increase it when the same settings give different pixels.
AUGMENTATION_VERSION: Final = "1"

Fill = Literal["nearest", "reflect", "wrap", "constant"]

_STEP: Final = 32  # pixels; most networks reduce the side of an image by this factor

#: These settings are part of every key. Others are part of it only when they are on, so that a new
#: setting does not change existing keys.
_ALWAYS: Final = (
    *("rotation", "shifts", "shear", "zoom"),
    *("horizontal_flip", "fill"),
)


@dataclass(frozen=True, config=STRICT)
class ViewSpec:
    """The number of augmented views of a training image, and how much they differ from it.

    The defaults are the augmentation of the course; everything else is off. A range r means that
    the value is uniform in [-r, r].
    """

    count: int = Field(default=4, ge=0, le=32, description="Augmented views per image.")
    rotation: float = Field(default=40.0, ge=0, le=180, description="Degrees, to either side.")
    shifts: float = Field(
        default=0.2, ge=0, le=1, description="Share of width and height, either way."
    )
    shear: float = Field(
        default=0.2, ge=0, le=1, description="Horizontal shear factor, either way."
    )
    zoom: float = Field(
        default=0.2,
        ge=0,
        le=0.99,
        description="Zoom in or out by up to this share, width and height each by itself.",
    )
    horizontal_flip: bool = Field(default=True, description="Mirror every other view.")
    vertical_flip: bool = Field(default=False, description="Put every other view upside down.")
    scale: float = Field(
        default=0.0,
        ge=0,
        le=3,
        description="Size of the whole image: up to 1 + this times larger or smaller.",
    )
    fill: Fill = Field(
        default="nearest",
        description="What lies outside the image: nearest, reflect, wrap or constant.",
    )
    brightness: float = Field(
        default=0.0, ge=0, le=1, description="Share of white added or taken away, at most."
    )
    contrast: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="More or less contrast by up to this share, about the image's mean.",
    )
    saturation: float = Field(
        default=0.0, ge=0, le=1, description="More or less colour by up to this share."
    )
    hue: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="Part of the colour circle, either way; 0.5 is any colour.",
    )
    erasing: float = Field(
        default=0.0,
        ge=0,
        le=0.9,
        description="Every other view loses a rectangle to noise, up to this share of its area.",
    )

    multi_scale: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="The backbone sees every third view this share smaller, every third larger "
        "than image_size, in steps of 32 pixels; for heads on pooled features.",
    )

    def side(self, view: int, image_size: int) -> int:
        """Returns the side in pixels at which the backbone sees a view.

        Args:
            view: Number of the view; view 0 always has `image_size`.
            image_size: Usual side in pixels.
        """
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
        for name, field in declared(self).items():
            value = getattr(self, name)
            if name in _ALWAYS or (name != "count" and value != field.default):
                settings[name] = value
        return json.dumps(settings, sort_keys=True)
