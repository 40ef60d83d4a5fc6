"""The map of the images as one picture, with frames in the colours of their labels.

The picture is transparent between the images, so that it suits the light and the dark page.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw

from imgpipe.components.report.pictures.thumbnails import small_picture
from imgpipe.components.run_record.image_map import ImageMap

_FIELD = 44  # pixels of a side
_FRAME = 3  # pixels
_TILE = _FIELD - 2 * (_FRAME + 1)  # side of an image in its field
#: Side of an image from which its tile is made, so that a long image has enough pixels.
TILE_SOURCE = 4 * _TILE
_DOT = 5  # radius in pixels
GREY = "#888888"  # frame of a class without a colour
_WRONG = "#e00000"
_QUALITY = 65  # of the WebP
#: Colours that can be told apart, also by most people who do not see all of them.
_COLOURS = (
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#8c564b", "#9467bd", "#e377c2"),
    *("#17becf", "#bcbd22", "#6b6b6b", "#003f8a", "#c9a400", "#7f0055"),
)


def colours(labels: Sequence[int]) -> dict[int, str]:
    """Return the colour of each of at most twelve classes."""
    return dict(zip(labels, _COLOURS, strict=False))


def draw(image_map: ImageMap, files: Mapping[str, bytes], chosen: Mapping[int, str]) -> str:
    """Draw the map as a data URI.

    Args:
        image_map: The images and their fields.
        files: Encoded images by content hash; any bytes are safe.
        chosen: Colours by label.
    """
    size = (image_map["columns"] * _FIELD, image_map["rows"] * _FIELD)
    picture = Image.new("RGBA", size, (0, 0, 0, 0))
    pen = ImageDraw.Draw(picture)
    for image in image_map["images"]:
        left = image["column"] * _FIELD
        top = image["row"] * _FIELD
        frame = (left + 1, top + 1, left + _FIELD - 2, top + _FIELD - 2)
        pen.rectangle(frame, fill=chosen.get(image["label"], GREY))
        tile = _tile(files.get(image["image_hash"], b""))
        if tile is not None:
            picture.paste(tile, (left + 1 + _FRAME, top + 1 + _FRAME))
        if not image["right"]:
            centre = (left + _FIELD - 2 - _DOT, top + 2 + _DOT)
            pen.circle(centre, _DOT, fill=_WRONG, outline="white", width=1)
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=_QUALITY)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def _tile(data: bytes) -> Image.Image | None:
    """Return the middle square of an image; None if the bytes are not an image."""
    small = small_picture(data, TILE_SOURCE) if data else None
    if small is None:
        return None
    edge = min(small.size)
    left = (small.width - edge) // 2
    top = (small.height - edge) // 2
    square = (left, top, left + edge, top + edge)
    return small.resize((_TILE, _TILE), Image.Resampling.LANCZOS, square)
