"""Images that Exif says to turn, which the serving op does not do.

A warning by default, not a repair: the same image sent to the server is not turned either,
and a model is best trained on what it will see. With "repair" they are turned, and kept as PNG.
"""

from __future__ import annotations

import io

from PIL import Image

from imgpipe.components.image_file.header import pillow
from imgpipe.components.image_filter.check import Check, Finding, Settings
from imgpipe.components.image_record import ImageRecord

#: Exif's orientation → what makes the image upright, and how people say it.
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
    """Report images that are stored in another orientation than they are to be shown in.

    TIFF is never served as it is, and Pillow turns it upright while it is transcoded.
    """
    if record.orientation not in _TURNS or record.format == "TIFF":
        return None
    how = _TURNS[record.orientation][1]
    return Finding(CHECK.name, f"stored {how} (Exif orientation {record.orientation})")


def repair(record: ImageRecord, data: bytes) -> bytes:
    """`data` turned upright, as PNG (RGB, 8 bits); the pixels only change their places."""
    with pillow(data) as image:
        image.load()
        upright = image.convert("RGB").transpose(_TURNS[record.orientation][0])
    out = io.BytesIO()
    upright.save(out, format="PNG", compress_level=1)  # an image hardly gets smaller
    return out.getvalue()


CHECK = Check(
    "orientation",
    130,
    "header",
    judge,
    'set judge.severity.orientation = "repair" to turn such images; turn them before asking the '
    "server too",
    severity="warn",
    may_be=("warn", "repair", "reject", "ignore"),
    finds="Turned by Exif, served as it is stored; repair: turned, as PNG",
    repair=repair,
)
