"""Thumbnails for the page, and Grad-CAM of the confident mistakes: what led to the wrong class.

The files are not trusted: every image is decoded within a pixel limit and encoded again, so the
bytes of the file itself are never part of the page.
"""

from __future__ import annotations

import base64
import contextlib
import io
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageFile

from imgpipe.components.common.image_file.header import pillow
from imgpipe.components.report.blocks import titled
from imgpipe.models.files.image_limits import PIXEL_LIMIT
from imgpipe.serving.pillow_pixels import upright

#: Longer side in pixels of an image that a click has enlarged, and of the image in the page, which
#: is shown at half its size, for dense screens.
SIDE, SMALL_SIDE = 480, 144
#: Once the page holds as many bytes of images, the others are not enlarged and have this side, so
#: that a page of any data set stays below 10 MB.
_LARGE_BYTES = 6_000_000
_FEWER_PIXELS = 96
_QUALITY = 60  # of the WebP; about 14 kB a large and 2 kB a small image
_EFFORT = 2  # of its encoder, from 0 to 6: a few milliseconds
_KEPT_QUALITY = 90  # of the JPEG from which a WebP is made
#: A file of at most so many bytes is kept in memory as it is: to decode it and to encode it again
#: takes several times as long as to draw it.
_SMALL_FILE = 50_000
#: Mistakes that are explained; each costs a forward and a backward pass.
EXPLAINED = 12
_BATCH = 8  # images whose feature maps are in memory at once
_log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from imgpipe.components.report.blocks import Picture


class Thumbnail(NamedTuple):
    """A picture of a page."""

    id: str  # anchor of the enlarged picture
    title: str  # what the places say in which it stands
    small: str  # data URI of the picture on the page
    large: str  # that of the enlarged picture; "" where the page holds too many


class Thumbnails:
    """The pictures of a page, by their keys; the first are the last to lose their enlargement."""

    def __init__(self, images: Mapping[str, bytes], pictures: Iterable[Picture]) -> None:
        self._made: dict[str, Thumbnail] = {}
        notes: dict[str, dict[str, list[str]]] = {}  # by key and file: identical files have one key
        for picture in pictures:
            of_files = notes.setdefault(picture.key, {})
            of_files.setdefault(picture.path, []).extend(picture.notes)
        total = 0
        for number, (key, of_files) in enumerate(notes.items()):
            data = images.get(key) if key else None
            large = thumbnail(data) if data and total < _LARGE_BYTES else ""
            small = thumbnail(data, SMALL_SIDE if large else _FEWER_PIXELS) if data else ""
            total += len(large) + len(small)
            if small:
                title = "; ".join(titled(path, of_file) for path, of_file in of_files.items())
                self._made[key] = Thumbnail(f"picture-{number}", title, small, large)

    def shown(self, picture: Picture) -> Thumbnail | None:
        """Return the picture as it is shown; None when there is no image."""
        return self._made.get(picture.key)

    def enlarged(self) -> list[Thumbnail]:
        """Return the pictures that a click enlarges, each once."""
        return [made for made in self._made.values() if made.large]


def thumbnail(data: bytes, side: int = SIDE) -> str:
    """Make a small WebP as a data URI; "" when the bytes are not an image. Never raises.

    The image is shown as the model sees it, so that only a JPEG is turned by its Exif orientation.
    The readable part of a truncated file is shown. `side` is the length of the longer side in
    pixels; a smaller image is not enlarged.
    """
    small = small_picture(data, side)
    if small is None:
        return ""
    out = io.BytesIO()
    small.save(out, "WEBP", quality=_QUALITY, method=_EFFORT)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def kept(data: bytes, side: int = SIDE) -> bytes:
    """Return what is kept in memory of a file until the page is drawn; see `shrunk`.

    A thumbnail of at most this side is made from it, which is not visibly worse than one of the
    file itself.
    """
    return data if len(data) <= _SMALL_FILE else shrunk(data, side)


def shrunk(data: bytes, side: int, quality: int = _KEPT_QUALITY) -> bytes:
    """Make a JPEG file as `thumbnail` does; empty when the bytes are not an image."""
    small = small_picture(data, side)
    return b"" if small is None else _jpeg(small, quality)


def small_picture(data: bytes, side: int) -> Image.Image | None:
    """Decode an image as `thumbnail` does; None when the bytes are not an image. Never raises."""
    try:
        with pillow(data) as image, _truncated_too():
            image.draft("RGB", (side, side))  # JPEG decodes at an eighth of its size
            if image.width * image.height > PIXEL_LIMIT:
                return None
            # Pillow first averages whole blocks, to at least twice the size, which is faster.
            image.thumbnail((side, side), reducing_gap=2.0)
            return upright(image).convert("RGB")
    except Exception:  # Pillow's plugins raise exceptions of any type
        return None


def _jpeg(image: Image.Image, quality: int = _KEPT_QUALITY) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


@contextlib.contextmanager
def _truncated_too() -> Iterator[None]:
    """Let Pillow decode truncated files. The setting is global, and `pillow` holds a lock."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def cam_key(image_hash: str) -> str:
    """Return the key of an image's Grad-CAM among the images of the page."""
    return f"cam-{image_hash}"


def encoded_cams(
    model: str, images: Mapping[str, bytes], wanted: Iterable[str]
) -> dict[str, bytes]:
    """Draw the images under the Grad-CAM map of their predicted class.

    An explanation that fails is left out, because the page is worth more than its explanations.

    Args:
        model: Folder of the SavedModel.
        images: Encoded images by hash.
        wanted: Hashes of the images to explain; those that are not in `images` are skipped.

    Returns:
        JPEG files by `cam_key`.
    """
    chosen = {digest: images[digest] for digest in wanted if digest in images}
    try:
        return dict(_drawn(model, chosen)) if chosen else {}
    except Exception:
        _log.exception("the mistakes could not be explained with Grad-CAM")
        return {}


def _drawn(model: str, images: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    from imgpipe.components.common import kept_model
    from imgpipe.models.export.saved_model import CAM
    from imgpipe.models.network import activation_images

    hashes = list(images)
    with contextlib.closing(kept_model.runtime(model)) as runtime:
        for start in range(0, len(hashes), _BATCH):
            batch = hashes[start : start + _BATCH]
            files = np.array([images[digest] for digest in batch], object)
            cams = runtime.answer(CAM, image_bytes=files)[CAM]
            for digest, cam in zip(batch, cams, strict=True):
                small = small_picture(images[digest], SIDE)
                if small is not None:  # Pillow may not read what the model can
                    overlay = activation_images.overlay(np.asarray(small), cam)
                    yield cam_key(digest), _jpeg(Image.fromarray(overlay))
