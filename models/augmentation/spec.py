"""Settings of the augmentation, their limits, and the key under which views are stored."""

from __future__ import annotations

import json
from typing import Annotated, Final, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from imgpipe.models.limits import STRICT, declared

_Share = Annotated[float, Field(ge=0, le=1)]
Fill = Literal["nearest", "reflect", "wrap", "constant"]

#: These settings are part of every key. The others are part of the key only when they are on, so
#: that a new setting does not change existing keys.
_ALWAYS: Final = ("rotation", "shifts", "shear", "zoom", "horizontal_flip", "fill")


@dataclass(frozen=True, config=STRICT)
class ViewSpec:
    """The number of augmented views of a training image, and how much they differ from it.

    The defaults are the augmentation of the course; everything else is off. A range r means that
    the value is uniform in [-r, r].
    """

    count: Annotated[int, Field(ge=0, le=32)] = Field(
        default=4, description="Number of augmented views of each training image."
    )
    rotation: Annotated[float, Field(ge=0, le=180)] = Field(
        default=40.0, description="Maximum rotation in degrees, to either side."
    )
    shifts: _Share = Field(
        default=0.2,
        description="Maximum shift in either direction, as a share of width and height.",
    )
    shear: _Share = Field(
        default=0.2, description="Maximum horizontal shear factor, in either direction."
    )
    zoom: Annotated[float, Field(ge=0, le=0.99)] = Field(
        default=0.2,
        description="Maximum zoom in or out, as a share; width and height change independently.",
    )
    horizontal_flip: bool = Field(default=True, description="Whether every other view is mirrored.")
    vertical_flip: bool = Field(
        default=False, description="Whether every other view is turned upside down."
    )
    scale: Annotated[float, Field(ge=0, le=3)] = Field(
        default=0.0,
        description="Maximum change of the size of the whole image: at most 1 + scale times larger "
        "or smaller.",
    )
    fill: Fill = Field(
        default="nearest",
        description="How pixels outside of the image are filled: nearest, reflect, wrap or "
        "constant.",
    )
    brightness: _Share = Field(
        default=0.0, description="Maximum change of the brightness, as a share of white."
    )
    contrast: _Share = Field(
        default=0.0,
        description="Maximum change of the contrast, as a share, around the mean of the image.",
    )
    saturation: _Share = Field(
        default=0.0, description="Maximum change of the saturation, as a share."
    )
    hue: Annotated[float, Field(ge=0, le=0.5)] = Field(
        default=0.0,
        description="Maximum change of the hue in either direction, as a share of the colour "
        "circle; 0.5 allows any colour.",
    )

    @property
    def colours(self) -> bool:
        """Whether any setting of the colours is on."""
        return any((self.brightness, self.contrast, self.saturation, self.hue))

    def key(self) -> str:
        """Return a stable string of all settings of a view; `count` is not part of it."""
        settings: dict[str, object] = {}
        for name, field in declared(self).items():
            value = getattr(self, name)
            if name in _ALWAYS or (name != "count" and value != field.default):
                settings[name] = value
        return json.dumps(settings, sort_keys=True)
