"""Preparation of images for a request: finding files, and encoding arrays as PNG without loss.

Pillow is only imported where pixels must be encoded.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imgpipe.models.errors import printable, without_secrets
from imgpipe.models.files.image_limits import PIXEL_LIMIT
from imgpipe.serving.client.errors import InvalidArgument
from imgpipe.serving.look import IPHONE_REMEDY, Look, too_many_pixels

if TYPE_CHECKING:
    from typing import TypeAlias

    from PIL import Image as Pillow

Image: TypeAlias = "bytes | str | Path | np.ndarray | Pillow.Image"
"""The encoded bytes of an image, the path of its file, a Pillow image, which is turned by the Exif
orientation that it carries, or pixels: uint8 [H, W, 3] or [H, W]."""

CHUNK_IMAGES = 32
"""Images per request: a CPU computes batches faster than single images."""
CHUNK_BYTES = 16 << 20
"""Size at which a request ends even with fewer images, so that large images do not fill memory."""
_PNG_LEVEL = 1  # level 6 takes four times as long to save a tenth of the size


def name_of(image: Any, index: int) -> str:
    """Return the name of an image in errors: its path, or its index in the list."""
    if isinstance(image, (str, Path)):
        return without_secrets(printable(str(image)))
    return f"image {index}"


def size_of(image: Any, index: int) -> int:
    """Return the approximate encoded size of an image in bytes; 0 for a file that is not there.

    Raises InvalidArgument if this is no image.
    """
    if isinstance(image, (str, Path)):
        try:
            return Path(image).stat().st_size
        except (OSError, ValueError):  # a path with a zero byte is a ValueError
            return 0
    if _is_pillow(image):
        return int(image.width * image.height)  # a PNG of a photograph has about a byte per pixel
    if isinstance(image, np.ndarray):
        return image.nbytes
    if isinstance(image, (bytes, bytearray, memoryview)):
        return len(image)
    raise InvalidArgument(
        "An image must be bytes, a path, a Pillow image or an array. "
        f"Received: {type(image).__name__} at index {index}."
    )


def chunks(sizes: Sequence[int]) -> Iterator[slice]:
    """Divide images of some sizes in bytes among requests.

    Each has at most `CHUNK_IMAGES` of together at most `CHUNK_BYTES`, or one larger image.
    """
    start = 0
    total = 0
    for index, size in enumerate(sizes):
        if index > start and (index - start == CHUNK_IMAGES or total + size > CHUNK_BYTES):
            yield slice(start, index)
            start = index
            total = 0
        total += size
    if start < len(sizes):
        yield slice(start, len(sizes))


def content_of(image: Any) -> bytes:
    """Return the encoded bytes of an image. Raises InvalidArgument if it cannot be read."""
    if isinstance(image, np.ndarray):
        return _encoded_array(image)
    try:
        if isinstance(image, (str, Path)):
            return _decodable(Path(image).read_bytes())
        # Pillow reads the pixels of a file only when they are needed.
        return _png(_rgb(image)) if _is_pillow(image) else _decodable(bytes(image))
    except FileNotFoundError as error:
        raise InvalidArgument("there is no such file.") from error
    except (OSError, ValueError, SyntaxError) as error:  # a damaged PNG is a SyntaxError
        reason = getattr(error, "strerror", None) or error
        raise InvalidArgument(f"cannot be read as an image file: {reason}.") from error


def _decodable(data: bytes) -> bytes:
    """Return an encoded image as models decode it: HEIC, which they do not, becomes PNG."""
    if not Look(data).is_heic:
        return data
    try:
        import pi_heif
        from PIL import Image as pillow
    except ImportError:
        raise InvalidArgument(
            "the file is HEIC, which models do not decode. To have it converted, install the "
            f"package that reads it: pip install pi-heif. Or, {IPHONE_REMEDY}."
        ) from None
    pi_heif.register_heif_opener(thumbnails=False)
    with pillow.open(io.BytesIO(data)) as image:
        if image.width * image.height > PIXEL_LIMIT:
            raise InvalidArgument(too_many_pixels(image.width * image.height, PIXEL_LIMIT))
        return _png(_rgb(image))


def _is_pillow(image: Any) -> bool:
    """Return whether `image` is a Pillow image, without importing Pillow."""
    return any(kind.__module__ == "PIL.Image" for kind in type(image).__mro__)


def _rgb(image: Pillow.Image) -> Pillow.Image:
    from imgpipe.serving.pillow_pixels import eight_bits, upright

    image = upright(image)
    return image if image.mode in ("L", "RGB") else eight_bits(image)


def _encoded_array(array: np.ndarray) -> bytes:
    from PIL import Image as pillow

    is_image = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3))
    if array.dtype != np.uint8 or not is_image or not array.size:
        raise InvalidArgument(
            "an array of pixels must be uint8 [height, width, 3] or [height, width]. "
            f"Received: {array.dtype} {list(array.shape)}."
        )
    # Pillow knows grey images only as [H, W].
    flat = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    return _png(pillow.fromarray(np.ascontiguousarray(flat)))


def _png(image: Pillow.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=_PNG_LEVEL)
    return out.getvalue()


def files_of(paths: Iterable[str | Path]) -> list[Path]:
    """Return the files among `paths` and all files below the folders among them.

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
