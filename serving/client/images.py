"""Pictures on their way out: files found, arrays encoded, a part cut out, ten crops made.

What is cut out or encoded goes as PNG, so that nothing but the cut changes a pixel. Pillow is
imported where a picture must be opened, and for nothing else.
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

TEN_CROP_SHARE = 0.875
"""Side of a crop as a share of the picture's: 224 of 256, as Krizhevsky et al. (2012) had it."""
TEN_CROP_VIEWS = 10
_PNG_LEVEL = 1  # the wire is fast; level 6 takes four times as long for a tenth less


@dataclass(frozen=True)
class Box:
    """A part of a picture; in shares of its sides when no number is above 1, in pixels else."""

    left: float
    top: float
    right: float
    bottom: float

    def __post_init__(self) -> None:
        across = 0 <= self.left < self.right < math.inf  # false for NaN too
        if not (across and 0 <= self.top < self.bottom < math.inf):
            raise InvalidArgument(
                "A crop is LEFT,TOP,RIGHT,BOTTOM with 0 <= left < right and 0 <= top < bottom. "
                f"Received: {self}."
            )

    @classmethod
    def of(cls, value: Box | str | Sequence[float]) -> Box:
        """From ``"left,top,right,bottom"`` or four numbers.

        Raises:
            InvalidArgument: that is no box.
        """
        if isinstance(value, Box):
            return value
        try:
            parts = value.split(",") if isinstance(value, str) else list(value)
            left, top, right, bottom = (float(part) for part in parts)
        except (TypeError, ValueError):
            raise InvalidArgument(
                "A crop is LEFT,TOP,RIGHT,BOTTOM in pixels, or in shares of the picture from 0 "
                f"to 1. Received: {value!r}."
            ) from None
        return cls(left, top, right, bottom)

    def __str__(self) -> str:
        return f"{self.left:g},{self.top:g},{self.right:g},{self.bottom:g}"

    def pixels(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom in pixels of a picture of that size.

        Raises:
            InvalidArgument: it reaches outside, or holds no pixel.
        """
        shares = max(self.right, self.bottom) <= 1
        x, y = (width, height) if shares else (1, 1)
        left, right = round(self.left * x), round(self.right * x)
        top, bottom = round(self.top * y), round(self.bottom * y)
        if right > width or bottom > height:
            raise InvalidArgument(
                f"The crop {self} reaches outside of the picture ({width} x {height} pixels)."
            )
        if right <= left or bottom <= top:
            raise InvalidArgument(
                f"The crop {self} holds no pixel of the picture ({width} x {height} pixels)."
            )
        return left, top, right, bottom


def name_of(image: Any, index: int) -> str:
    """How errors call an image: its path, or its place in the list."""
    return str(image) if isinstance(image, str | Path) else f"image {index}"


def size_of(image: Any) -> int:
    """Bytes that it will take, about; 0 for a file that is not there."""
    if isinstance(image, str | Path):
        try:
            return Path(image).stat().st_size
        except OSError:
            return 0
    if _is_pillow(image):
        return int(image.width * image.height)  # a PNG of a photograph has about a byte a pixel
    if hasattr(image, "read"):
        return 0  # not known before it is read
    return image.nbytes if isinstance(image, np.ndarray) else len(image)


def check(image: Any, index: int) -> Any:
    """``image``, if it is of a type that ``content_of`` reads.

    Raises:
        InvalidArgument: it is not.
    """
    known = isinstance(image, bytes | bytearray | memoryview | str | Path | np.ndarray)
    if not (known or hasattr(image, "read") or _is_pillow(image)):
        raise InvalidArgument(
            "An image is bytes, a path, an open binary file, a Pillow image or an array. "
            f"Received: {type(image).__name__} at place {index}."
        )
    return image


def content_of(image: Any) -> bytes:
    """The encoded bytes of an image.

    Raises:
        InvalidArgument: a file cannot be read, an array is not one of pixels.
    """
    if isinstance(image, np.ndarray):
        return _encoded_array(image)
    if isinstance(image, str | Path):
        try:
            return Path(image).read_bytes()
        except FileNotFoundError as error:
            raise InvalidArgument("there is no such file.") from error
        except OSError as error:
            reason = error.strerror or error
            raise InvalidArgument(f"cannot be read as an image file: {reason}.") from error
    if _is_pillow(image):
        return _png(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    if hasattr(image, "read"):
        content = image.read()
        if not isinstance(content, bytes):
            raise InvalidArgument(
                "an open file of an image is opened for bytes, as in open(path, 'rb'). "
                f"Received: one that reads {type(content).__name__}."
            )
        return content
    return bytes(image)


def _is_pillow(image: Any) -> bool:
    """Whether it is a Pillow image; Pillow need not be imported to tell."""
    return any(kind.__module__ == "PIL.Image" for kind in type(image).__mro__)


def views_of(content: bytes, box: Box | None, ten_crop: bool) -> list[bytes]:
    """What is sent for one image: itself, its cut, or ten crops of either.

    The ten are the four corners and the middle, each as it is and mirrored.

    Raises:
        InvalidArgument: the picture must be opened for that and cannot be.
    """
    if box is None and not ten_crop:
        return [content]
    picture = _opened(content)
    if box is not None:
        picture = picture.crop(box.pixels(*picture.size))
    if not ten_crop:
        return [_png(picture)]
    from PIL import ImageOps

    crops = [picture.crop(corner) for corner in _five(*picture.size)]
    return [_png(view) for crop in crops for view in (crop, ImageOps.mirror(crop))]


def _five(width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    w, h = max(1, round(width * TEN_CROP_SHARE)), max(1, round(height * TEN_CROP_SHARE))
    right, bottom = width - w, height - h
    for x, y in ((0, 0), (right, 0), (0, bottom), (right, bottom), (right // 2, bottom // 2)):
        yield x, y, x + w, y + h


def _opened(content: bytes) -> Pillow.Image:
    """RGB pixels as the serving op sees them: first frame, not turned by Exif."""
    from PIL import Image as pillow

    try:
        with pillow.open(io.BytesIO(content)) as image:
            if image.mode.startswith("I;16"):  # Pillow clips 16 bits, TensorFlow takes the upper 8
                return pillow.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
        raise InvalidArgument(f"cannot be opened to cut a part out: {error}.") from error


def _encoded_array(array: np.ndarray) -> bytes:
    from PIL import Image as pillow

    if array.dtype != np.uint8 or not (
        array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3))
    ):
        raise InvalidArgument(
            "an array of pixels is uint8 [height, width, 3] or [height, width]. "
            f"Received: {array.dtype} {list(array.shape)}."
        )
    if not array.size:
        raise InvalidArgument(f"an array without pixels. Received: {list(array.shape)}.")
    flat = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    return _png(pillow.fromarray(np.ascontiguousarray(flat)))


def _png(picture: Pillow.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=_PNG_LEVEL)
    return out.getvalue()


def files_of(places: Iterable[str | Path]) -> list[Path]:
    """The files among ``places``, and those below its folders, sorted; hidden ones are left out.

    Raises:
        InvalidArgument: a folder holds no file, or cannot be looked into.
    """
    result: list[Path] = []
    for place in map(Path, places):
        if not place.is_dir():
            result.append(place)
            continue
        found = sorted(_below(place))
        if not found:
            raise InvalidArgument(f"The folder {place} holds no files.")
        result += found
    return result


def _below(folder: Path) -> Iterator[Path]:
    def stop(error: OSError) -> None:
        raise InvalidArgument(f"Cannot look into {error.filename}: {error.strerror}.") from error

    for parent, folders, files in os.walk(folder, onerror=stop):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in files if not name.startswith("."))
