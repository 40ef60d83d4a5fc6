"""Reads the images of a review from the source of the run, by their content hash."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping

from imgpipe.components.example_gen.sources import Item, Source
from imgpipe.components.report import thumbnails
from imgpipe.models.errors import ImgpipeError
from imgpipe.pipeline.review.questions import Shown

#: Longer side in pixels of an image on the page, and quality of its JPEG.
_SIDE, _QUALITY = 1280, 88


class NoImage(Exception):
    """An image cannot be shown; the message says why."""


class Images:
    """Images by content hash. Nothing else of the source can be read through it.

    Args:
        source: The source of the run, which may be an archive or TFRecord files.
        shown: The images that may be read, by hash.
    """

    def __init__(self, source: Source, shown: Mapping[str, Shown]) -> None:
        self._source, self._shown = source, shown
        self._listing = threading.Lock()
        self._items: dict[str, Item] | None = None

    def jpeg(self, image_hash: str) -> bytes:
        """Return an image as the model sees it, shrunk to a JPEG that is safe to show.

        Args:
            image_hash: Hash of an image that the page shows.

        Raises:
            NoImage: It is not one of the images, or its file is gone, has changed or is not an
                image.
        """
        # The hash comes from the browser, and must not become a way to read other files.
        if image_hash not in self._shown:
            raise NoImage("This review does not show this image.")
        image = thumbnails.shrunk(self._content(image_hash), _SIDE, _QUALITY)
        if not image:
            raise NoImage("The file cannot be shown, because it is damaged or very large.")
        return image

    def _content(self, image_hash: str) -> bytes:
        item = self._listed().get(self._shown[image_hash].path)
        if item is None:
            raise NoImage("The file is no longer in the source. Run the pipeline again.")
        try:
            data = self._source.read(item)
        except OSError as error:
            raise NoImage(f"The file cannot be read: {error.strerror or error}.") from error
        if hashlib.sha256(data).hexdigest() != image_hash:
            raise NoImage("The file has changed since the run. Run the pipeline again.")
        return data

    def _listed(self) -> dict[str, Item]:
        """List the source once, and keep the items of the images that are shown."""
        with self._listing:  # the browser asks for several images at the same time
            if self._items is None:
                wanted = {image.path for image in self._shown.values()}
                try:
                    items = self._source.listing().items
                except ImgpipeError as error:
                    raise NoImage(f"The source of the images cannot be read: {error}") from error
                self._items = {item.path: item for item in items if item.path in wanted}
            return self._items
