"""Options of ``classify`` and ``classify_each``, and how an image is loaded with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from imgpipe.serving.client import images as image_module
from imgpipe.serving.client.errors import InvalidArgument
from imgpipe.serving.client.images import Box, Image

AT_ONCE = 4
"""Chunks in flight at a time: enough for a server with a few cores, with little memory here."""
_PNG_GROWTH = 8  # a cropped photograph as PNG is about this many times larger than as JPEG

Loaded = tuple[str, list[bytes]]
"""An image's name and its views."""


class Classifying(TypedDict, total=False):
    """Options of ``classify`` and ``classify_each``."""

    top: int
    """Number of labels to return for each image; 5 by default."""
    signature_name: str
    """Name of a signature with an input of encoded images and the outputs ``classes`` and
    ``probabilities``; empty, the default, for ``serving_default``."""
    input_name: str
    """Name of that input; ``image_bytes`` by default."""
    crop: Box | str | Sequence[float] | None
    """Only send this part of each image: left, top, right and bottom in pixels or as fractions."""
    ten_crop: bool
    """Average the probabilities of ten crops of each image. This helps with doubtful images and
    costs ten times as much."""
    at_once: int
    """Number of requests in flight at a time; 4 by default."""
    timeout: float | None
    """Deadline of each request in seconds; None, the default, uses the timeout of the client."""


@dataclass(frozen=True)
class Settings:
    """The options of ``Classifying``, checked."""

    top: int = 5
    signature_name: str = ""
    input_name: str = "image_bytes"
    crop: Box | None = None
    ten_crop: bool = False
    at_once: int = AT_ONCE
    timeout: float | None = None
    strict: bool = False
    """Whether the error of an image ends the operation; otherwise it is the image's answer."""

    @classmethod
    def of(cls, options: Classifying, strict: bool) -> Settings:
        """Check the options.

        Raises:
            InvalidArgument: An option is not valid.
        """
        values: dict[str, Any] = dict(options)
        if values.get("crop") is not None:
            values["crop"] = Box.of(values["crop"])
        settings = cls(strict=strict, **values)
        for name in ("top", "at_once"):
            if (number := getattr(settings, name)) < 1:
                raise InvalidArgument(f"{name} must be 1 or more. Received: {number!r}.")
        return settings

    @property
    def views(self) -> int:
        """Number of views that are sent for each image."""
        return image_module.TEN_CROP_VIEWS if self.ten_crop else 1

    @property
    def growth(self) -> int:
        """Approximate number of bytes sent for each byte read."""
        return self.views * (_PNG_GROWTH if self.ten_crop or self.crop else 1)

    def load(self, index: int, image: Image) -> Loaded | InvalidArgument:
        """Read one image and cut its views; return its error if it cannot be read.

        Raises:
            InvalidArgument: The image cannot be read, and ``strict`` is set.
        """
        name = image_module.name_of(image, index)
        try:
            content = image_module.content_of(image)
            return name, image_module.views_of(content, self.crop, self.ten_crop)
        except InvalidArgument as error:
            named = InvalidArgument(f"{name}: {error}")
            if self.strict:
                raise named from error
            return named
