"""Images with an Exif orientation, which the serving operation does not apply.

The default is a warning and not a repair, because the server does not rotate images either, and a
model should be trained on the images that it will see. With "repair", the images are rotated and
stored as PNG.
"""

from __future__ import annotations

import io

from PIL import Image

from imgpipe.components.image_file.header import pillow
from imgpipe.components.image_filter.check import Check, Finding, Settings
from imgpipe.components.image_filter.checks.decodable import eight_bits
from imgpipe.components.image_record import ImageRecord

#: Exif orientation → the operation that makes the image upright, and a description.
_TURNS = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT, "mirrored"),
    3: (Image.Transpose.ROTATE_180, "upside down"),
    4: (Image.Transpose.FLIP_TOP_BOTTOM, "upside down and mirrored"),
    5: (Image.Transpose.TRANSPOSE, "on its side and mirrored"),
    6: (Image.Transpose.ROTATE_270, "on its side"),
    7: (Image.Transpose.TRANSVERSE, "on its side and mirrored"),
    8: (Image.Transpose.ROTATE_90, "on its side"),
}


def judge(record: ImageRecord, settings: Settings) -> Finding | None:
    """Report images whose pixels are not stored upright.

    TIFF files are not reported, because Pillow makes them upright while they are transcoded.
    """
    if record.orientation not in _TURNS or record.format == "TIFF":
        return None
    how = _TURNS[record.orientation][1]
    return Finding(CHECK.name, f"stored {how} (Exif orientation {record.orientation})")


def repair(record: ImageRecord, data: bytes) -> bytes:
    """Make the image upright and encode it as PNG with 8-bit RGB, without loss."""
    with pillow(data) as image:
        image.load()
        upright = eight_bits(image).transpose(_TURNS[record.orientation][0])
    out = io.BytesIO()
    # Higher compression levels take longer and barely make a photograph smaller.
    upright.save(out, format="PNG", compress_level=1)
    return out.getvalue()


CHECK = Check(
    "orientation",
    130,
    "header",
    judge,
    'set judge.severity.orientation = "repair" to rotate such images, and rotate them before '
    "sending them to the server",
    severity="warn",
    may_be=("warn", "repair", "reject", "ignore"),
    finds="Exif orientation, which the model ignores; repair: rotated, as PNG",
    repair=repair,
)
