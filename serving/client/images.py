"""Preparation of images for a request: finding files, encoding arrays, cropping.

Crops and arrays are encoded as PNG, which is lossless. Pillow is only imported where an image must
be opened.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np

from imgpipe.serving.client.errors import InvalidArgument

if TYPE_CHECKING:
    from PIL import Image as Pillow

Image: TypeAlias = "bytes | str | Path | np.ndarray | BinaryIO | Pillow.Image"
"""The encoded bytes of an image, the path of its file, the file opened for reading bytes, a Pillow
image, or pixels: uint8 [H, W, 3] or [H, W]."""

CHUNK_IMAGES = 32
"""Images per request: measured 2.7-4 times the throughput of single images on a CPU."""
CHUNK_BYTES = 16 << 20
"""Size at which a request ends even with fewer images, so that large images do not fill memory."""
_UNREADABLE = (OSError, ValueError, SyntaxError)
"""What reading a file, or an image with Pillow, raises. A closed file is a ValueError, and a
damaged PNG a SyntaxError."""
_PNG_LEVEL = 1  # level 6 takes four times as long to save a tenth of the size


@dataclass(frozen=True)
class Box:
    """A rectangle of an image.

    Its numbers are fractions of the sides of the image where none is above 1, otherwise pixels.
    """

    left: float
    top: float
    right: float
    bottom: float

    def __post_init__(self) -> None:
        across = 0 <= self.left < self.right < math.inf  # false for NaN too
        if not (across and 0 <= self.top < self.bottom < math.inf):
            raise InvalidArgument(
                "A crop must be LEFT,TOP,RIGHT,BOTTOM with 0 <= left < right and "
                f"0 <= top < bottom. Received: {self}."
            )

    @classmethod
    def of(cls, value: Box | str | Sequence[float]) -> Box:
        """Create a box from ``"left,top,right,bottom"`` or from four numbers.

        Raises:
            InvalidArgument: ``value`` is not a box.
        """
        if isinstance(value, Box):
            return value
        try:
            parts = value.split(",") if isinstance(value, str) else list(value)
            left, top, right, bottom = (float(part) for part in parts)
        except (TypeError, ValueError):
            raise InvalidArgument(
                "A crop must be LEFT,TOP,RIGHT,BOTTOM in pixels, or in fractions of the image from "
                f"0 to 1. Received: {value!r}."
            ) from None
        return cls(left, top, right, bottom)

    def __str__(self) -> str:
        return f"{self.left:g},{self.top:g},{self.right:g},{self.bottom:g}"

    def pixels(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return left, top, right and bottom in pixels for an image of the given size.

        Raises:
            InvalidArgument: The box extends beyond the image, or contains no pixel.
        """
        are_fractions = max(self.right, self.bottom) <= 1
        x, y = (width, height) if are_fractions else (1, 1)
        left, right = round(self.left * x), round(self.right * x)
        top, bottom = round(self.top * y), round(self.bottom * y)
        if right > width or bottom > height:
            raise InvalidArgument(
                f"The crop {self} extends beyond the image ({width} x {height} pixels)."
            )
        if right <= left or bottom <= top:
            raise InvalidArgument(
                f"The crop {self} contains no pixel of the image ({width} x {height} pixels)."
            )
        return left, top, right, bottom


def name_of(image: Any, index: int) -> str:
    """Return the name of an image in errors: its path, or its index in the list."""
    return str(image) if isinstance(image, str | Path) else f"image {index}"


def size_of(image: Any) -> int:
    """Return the approximate encoded size of an image in bytes; 0 where it is not known."""
    if isinstance(image, str | Path):
        try:
            return Path(image).stat().st_size
        except (OSError, ValueError):  # a path with a zero byte is a ValueError
            return 0
    if _is_pillow(image):
        return int(image.width * image.height)  # a PNG of a photograph has about a byte per pixel
    if hasattr(image, "read"):
        return _left(image)
    return image.nbytes if isinstance(image, np.ndarray) else len(image)


def _left(file: Any) -> int:
    """Return how many bytes of an open file are still to be read; 0 where it cannot be told."""
    try:
        position = file.tell()
        left = file.seek(0, io.SEEK_END) - position
        file.seek(position)
    except (AttributeError, TypeError, *_UNREADABLE):
        return 0
    return max(left, 0)


def chunks(sizes: Sequence[int]) -> Iterator[slice]:
    """Divide images among requests.

    Args:
        sizes: Size of each image in bytes.

    Yields:
        The images of each request: at most ``CHUNK_IMAGES`` of together at most ``CHUNK_BYTES``, or
        one larger image.
    """
    start, total = 0, 0
    for index, size in enumerate(sizes):
        if index > start and (index - start == CHUNK_IMAGES or total + size > CHUNK_BYTES):
            yield slice(start, index)
            start, total = index, 0
        total += size
    if start < len(sizes):
        yield slice(start, len(sizes))


def check(image: Any, index: int) -> Any:
    """Return ``image`` if ``content_of`` can read its type.

    Raises:
        InvalidArgument: ``image`` has another type.
    """
    known = isinstance(image, bytes | bytearray | memoryview | str | Path | np.ndarray)
    if not (known or hasattr(image, "read") or _is_pillow(image)):
        raise InvalidArgument(
            "An image must be bytes, a path, an open binary file, a Pillow image or an array. "
            f"Received: {type(image).__name__} at index {index}."
        )
    return image


def content_of(image: Any) -> bytes:
    """Return the encoded bytes of an image.

    Raises:
        InvalidArgument: The image cannot be read, or the array does not have the dtype and shape of
            pixels.
    """
    if isinstance(image, np.ndarray):
        return _encoded_array(image)
    try:
        if isinstance(image, str | Path):
            return Path(image).read_bytes()
        if _is_pillow(image):  # Pillow reads the pixels of a file only when they are needed
            return _png(image if image.mode in ("L", "RGB") else _rgb(image))
        content = image.read() if hasattr(image, "read") else bytes(image)
    except FileNotFoundError as error:
        raise InvalidArgument("there is no such file.") from error
    except _UNREADABLE as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidArgument(f"cannot be read as an image file: {reason}.") from error
    if not isinstance(content, bytes):
        raise InvalidArgument(
            "an image file must be opened in binary mode, as in open(path, 'rb'). "
            f"Received: a file that reads {type(content).__name__}."
        )
    return content


def _is_pillow(image: Any) -> bool:
    """Return whether ``image`` is a Pillow image, without importing Pillow."""
    return any(kind.__module__ == "PIL.Image" for kind in type(image).__mro__)


def cropped(content: bytes, box: Box) -> bytes:
    """Return a part of an encoded image as PNG.

    Raises:
        InvalidArgument: The image cannot be opened, or the box does not lie inside it.
    """
    image = _opened(content)
    return _png(image.crop(box.pixels(*image.size)))


def _opened(content: bytes) -> Pillow.Image:
    """RGB pixels as the served model decodes them: the first frame, without Exif rotation."""
    from PIL import Image as pillow

    try:
        with pillow.open(io.BytesIO(content)) as image:
            return _rgb(image)
    except (*_UNREADABLE, pillow.DecompressionBombError) as error:
        raise InvalidArgument(f"cannot be opened for cropping: {error}.") from error


def _rgb(image: Pillow.Image) -> Pillow.Image:
    if image.mode.startswith("I;16"):  # Pillow clips 16 bits, TensorFlow takes the upper 8
        from PIL import Image as pillow

        return pillow.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def _encoded_array(array: np.ndarray) -> bytes:
    from PIL import Image as pillow

    if array.dtype != np.uint8 or not (
        array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3))
    ):
        raise InvalidArgument(
            "an array of pixels must be uint8 [height, width, 3] or [height, width]. "
            f"Received: {array.dtype} {list(array.shape)}."
        )
    if not array.size:
        raise InvalidArgument(
            f"an array of pixels must not be empty. Received the shape {list(array.shape)}."
        )
    # Pillow knows grey images only as [H, W].
    flat = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    return _png(pillow.fromarray(np.ascontiguousarray(flat)))


def _png(image: Pillow.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=_PNG_LEVEL)
    return out.getvalue()


def files_of(paths: Iterable[str | Path]) -> list[Path]:
    """Return the files among ``paths`` and all files below the folders among them.

    The files of a folder are sorted. Hidden files and folders below a folder are left out, and so
    are pipes, sockets and devices, because reading them may never end.

    Raises:
        InvalidArgument: A folder contains no file, or cannot be read.
    """
    result: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            result.append(path)
            continue
        files = sorted(_below(path))
        if not files:
            raise InvalidArgument(f"The folder {path} contains no files.")
        result += files
    return result


def _below(folder: Path) -> Iterator[Path]:
    def stop(error: OSError) -> None:
        raise InvalidArgument(f"Cannot read {error.filename}: {error.strerror}.") from error

    for parent, folders, files in os.walk(folder, onerror=stop):
        # os.walk enters only the folders that are left in this list.
        folders[:] = [name for name in folders if not name.startswith(".")]
        shown = (Path(parent, name) for name in files if not name.startswith("."))
        # A link that leads nowhere is kept, so that it is reported as a file that cannot be read.
        yield from (file for file in shown if file.is_file() or not file.exists())
