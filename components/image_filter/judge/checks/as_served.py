"""Images that the model sees otherwise than people do.

The serving operation drops the alpha channel, which shows hidden colours, and turns no files but
JPEG. They are not repaired, because a model should be trained on the images that it will see.
"""

from __future__ import annotations

import contextlib

from PIL import ExifTags

from imgpipe.components.common.image_file.header import pillow
from imgpipe.components.common.image_record import ImageRecord
from imgpipe.components.image_filter.judge.check import WARN, ImageFinding, Result, check
from imgpipe.models.names import feature_names as names

_TURNED_BY_VIEWERS = ("PNG", "WEBP")
_EXIF = (b"eXIf", b"EXIF", b"Raw profile type")  # of PNG, of WebP, and of older programs in PNG


@check(
    "pixels",
    "put such images on a white background, as `magick mogrify -background white -alpha remove "
    "-alpha off FILES` does",
    severity="warn",
    may_be=WARN,
    titles={"alpha": "transparent pixels"},
)
def alpha(record: ImageRecord, _: object) -> Result:
    """Transparent pixels, whose hidden colours the model sees."""
    hidden = record.content.figures[names.TRANSPARENCY]
    if not hidden:
        return None
    return ImageFinding("alpha", f"{hidden:.1%} of the pixels are not opaque", score=-hidden)


@check(
    "pixels",
    "save such images again as JPEG, or upright, as `magick mogrify -auto-orient FILES` does",
    severity="warn",
    may_be=WARN,
    titles={"orientation": "not upright for the model"},
)
def orientation(record: ImageRecord, _: object) -> Result:
    """PNG and WebP files with an orientation, which viewers turn, and the model does not."""
    data = record.image_bytes
    if record.content.format not in _TURNED_BY_VIEWERS or not any(map(data.__contains__, _EXIF)):
        return None
    with contextlib.suppress(Exception), pillow(data) as image:  # Pillow raises any for odd blocks
        image.info.pop("xmp", None)  # where viewers do not look for it
        turn = image.getexif().get(ExifTags.Base.Orientation, 1)
        if turn in range(2, 9):
            return ImageFinding("orientation", f"orientation {turn} of 1 to 8 is not upright")
    return None
