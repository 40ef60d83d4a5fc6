"""The settings of the augmented views of a training image."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Final, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from imgpipe.models.files import own_code
from imgpipe.models.settings.limits import AUTOMATIC, STRICT, declared

_Share = Annotated[float, Field(ge=0, le=1)]
BUILDER: Final = "views.builder"  # the name of this setting in messages


@dataclass(frozen=True, config=STRICT)
class ViewSpec:
    """The number of augmented views of a training image, and how much they differ from it.

    The defaults are the augmentation of the course. A range r means that the value is uniform in
    [-r, r].
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
    scale: Annotated[float, Field(ge=0, le=3)] = Field(
        default=0.0,
        description="Maximum change of the size of the whole image: at most 1 + scale times larger "
        "or smaller.",
    )
    horizontal_flip: bool = Field(default=True, description="Whether every other view is mirrored.")
    fill: Literal["nearest", "reflect", "wrap", "constant"] = Field(
        default="nearest",
        description="How pixels outside of the image are filled: nearest, reflect, wrap or "
        "constant.",
    )
    builder: str = Field(
        default="",
        pattern=r"^([A-Za-z_][\w.]*:[A-Za-z_]\w*)?$",
        description="module:function of your own that returns a Keras layer, or a function, from a "
        "batch of images, float32 [N, S, S, 3] in 0..255, to one of the same shape; it makes the "
        "views instead of the other settings.",
    )

    def key(self) -> str:
        """Return a stable string of what decides a view; `count` is not part of it."""
        settings = {name: getattr(self, name) for name in declared(self) if name != "count"}
        if self.builder:
            settings["code"] = own_code.sha256(BUILDER, self.builder)
        return json.dumps(settings, sort_keys=True)


@dataclass(frozen=True, config=STRICT)
class ViewSettings(ViewSpec):
    """Augmented views of each training image, in addition to the image itself."""

    count: int = Field(
        default=AUTOMATIC,
        ge=AUTOMATIC,
        le=32,
        description="Augmented views per image. -1: 4, but none for a head that is solved.",
    )

    @property
    def spec(self) -> ViewSpec:
        """Settings of the views themselves; `count` is the most that are made."""
        count = ViewSpec.count if self.count == AUTOMATIC else self.count
        return ViewSpec(**{**dataclasses.asdict(self), "count": count})
