"""A published model that is loaded into this process, for Python programs and notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imgpipe.pipeline.published.local_model import LocalClient
    from imgpipe.serving.client import Box, Classification
    from imgpipe.serving.client.images import Image


class LoadedModel:
    """A published model that answers in this process, as a server with the same version would.

    `imgpipe.load` makes it. Several threads may share it, but no process that is forked later.
    Close it to free its memory, or use it as a context manager.

    Args:
        client: The client of the loaded version.
    """

    def __init__(self, client: LocalClient) -> None:
        self._client = client

    @property
    def folder(self) -> Path:
        """Folder of the version."""
        return self._client.folder

    @property
    def version(self) -> int:
        """Number of the version; 0 if its folder is not named by a number."""
        return int(self.folder.name) if self.folder.name.isdecimal() else 0

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the probabilities."""
        file = self.folder / "assets" / "vocabulary.txt"
        return tuple(file.read_text("utf-8").splitlines())

    def predict(
        self,
        images: Image | Sequence[Image],
        *,
        top: int = 5,
        crop: Box | str | Sequence[float] | None = None,
        ten_crop: bool = False,
    ) -> list[Classification]:
        """Classify images.

        Args:
            images: One image or a sequence of them: paths, encoded bytes, open binary files, Pillow
                images, or arrays of pixels, uint8 [height, width, 3] or [height, width].
            top: Number of labels to return for each image.
            crop: Only look at this part of each image: left, top, right and bottom in pixels or as
                fractions from 0 to 1.
            ten_crop: Whether to average the answers for ten crops of each image, which takes ten
                times as long.

        Returns:
            One classification for each image, with ``label``, ``probability`` and ``top``.

        Raises:
            InvalidArgument: An image cannot be read or decoded; the message names it.
            ResourceError: This process was forked after the model had been loaded.
            ServingError: The model is closed.
        """
        given: Sequence[Any] = [images] if _is_one(images) else images  # type: ignore[assignment]
        return self._client.classify(given, top=top, crop=crop, ten_crop=ten_crop)

    def close(self) -> None:
        """Free the memory of the model."""
        self._client.close()

    def __enter__(self) -> LoadedModel:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"LoadedModel({str(self.folder)!r}, {len(self.classes)} classes)"


def _is_one(images: Any) -> bool:
    """Return whether it is one image instead of a sequence of images."""
    import numpy as np

    if isinstance(images, np.ndarray):
        return images.ndim < 4  # [N, height, width, 3] is a sequence of images
    return not isinstance(images, Sequence) or isinstance(images, str | bytes | bytearray)
