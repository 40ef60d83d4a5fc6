"""Images that the model sees otherwise than people do.

The serving operation drops the alpha channel, which shows hidden colours, and turns no files but
JPEG. The default is a warning and not a repair, because a model should be trained on the images
that it will see. With "repair", images with transparent pixels are put on white and stored as PNG.
"""

from __future__ import annotations

import contextlib
import io

from PIL import ExifTags, Image

from imgpipe.components.common.image_file.content import alpha_channel
from imgpipe.components.common.image_file.header import pillow
from imgpipe.components.common.image_record import ImageRecord
from imgpipe.components.image_filter.judge.check import WARN, ImageFinding, Result, check
from imgpipe.models.names import feature_names as names
from imgpipe.serving.pillow_pixels import eight_bits

_TURNED_BY_VIEWERS = ("PNG", "WEBP")
_EXIF = (b"eXIf", b"EXIF", b"Raw profile type")  # of PNG, of WebP, and of older programs in PNG


def on_white(record: ImageRecord) -> bytes:
    """Render the image on a white background and encode it as PNG."""
    # Pillow does not apply the transparent colour of a PNG with 16 bits per channel.
    mask = alpha_channel(record.image_bytes, record.content.format, record.content.mode)
    with pillow(record.image_bytes) as image:
        opaque = image.convert("RGBA").getchannel("A") if mask is None else Image.fromarray(mask)
        white = Image.new("RGB", image.size, "white")
        out = io.BytesIO()
        # Higher compression levels take longer and barely make a photograph smaller.
        Image.composite(eight_bits(image), white, opaque).save(out, format="PNG", compress_level=1)
    return out.getvalue()


@check(
    "pixels",
    'set judge.severity.alpha = "repair" to put such images on a white background',
    severity="warn",
    may_be=("warn", "repair", "reject", "ignore"),
    repair=on_white,
    titles={"alpha": "transparent pixels"},
)
def alpha(record: ImageRecord, _: object) -> Result:
    """Transparent pixels, whose hidden colours the model sees; repair: on white."""
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
