"""An image as results name it: what the lists of all components and commands share."""

from __future__ import annotations

from typing import Annotated

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12


class NamedImage(TypedDict):
    """An image of the source."""

    path: Annotated[str, "Path in the source."]
    image_hash: Annotated[str, "SHA-256 of the file."]


class LabelledImage(NamedImage):
    """An image with its label."""

    label: Annotated[str, "Label of the image."]


class PlacedImage(LabelledImage):
    """An image with its label and its split."""

    split: Annotated[str, "Split of the image."]
