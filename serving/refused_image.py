"""Why a model cannot decode an image, in words for the person who has the file.

TensorFlow's decoder describes its own inside ("jpeg::Uncompress failed"), and cannot tell a text
from a photograph of another format. The server, the client, `imgpipe predict` and the inspection
of images all say these words instead.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Container, Iterable

from imgpipe.serving.file_formats import (
    HEIC,
    beginning,
    format_name,
    known_format,
    other_format,
    text_of,
)
from imgpipe.serving.image_header import sniff

#: Largest number of pixels of an image that is decoded: by the checks, in training, by servers and
#: by all commands. Phones take 50, 64 and 108 million. In RGB they take 375 MB, which each core may
#: hold at a time; those that take 200 million write files that no request has room for.
PIXEL_LIMIT = 125_000_000
IS_TEXT = "the file is no image, but text."
#: How an iPhone is told to write JPEG files.
IPHONE_REMEDY = "to get JPEG files from an iPhone: Settings › Camera › Formats › Most Compatible"
_AGAIN = "Copy or download the original again."
_SAVE = "Save the image as JPEG or PNG."
#: Parts of the messages of `tf.io.decode_image`, and of the check of a request for text.
_ABOUT_AN_IMAGE = re.compile(
    "Unknown image file format|Input is empty|jpeg::Uncompress|Invalid (?:PNG|GIF) data|BMP|WebP|"
    "JPEG XL|JXL|Input size should match|[Nn]umber of channels|expected the bytes of an image file"
)
_MEGA = 1_000_000
_TAIL = 64  # bytes at the end of a file that may contain padding after the end marker
# Flags of the first chunk of an extended WebP file (RFC 9649, section 2.7.1).
_WEBP_FLAGS, _ALPHA, _ANIMATION = 20, 0x10, 0x02
_WEBP_LOSSLESS_ALPHA = 0x10  # of the last byte of the header of a lossless one


def in_words(message: str, images: Iterable[bytes], converted: Container[str] = ()) -> str:
    """Return why a model refused images.

    Args:
        message: What TensorFlow said.
        images: The encoded images of the request, which are only read if the message is about one.
        converted: Names of other formats whose images are converted before the model is asked.

    Returns:
        A sentence, in which a row is named if there are several images; the message itself if it
        is about something else.
    """
    received = list(images) if _ABOUT_AN_IMAGE.search(message) else []
    if not received:
        return message
    if len(received) == 1:
        return reason(received[0], converted)
    for row, image in enumerate(received):
        if why := _certain(image, converted):
            return f"Row {row}: {why}"
    return (
        f"One of the {len(received)} images is damaged or cut short, and cannot be decoded. Send "
        "them one by one to find out which."
    )


def too_many_pixels(count: int, most: int) -> str:
    """Return why an image of some pixels is not decoded where at most `most` are allowed."""
    return (
        f"the image has {count / _MEGA:.1f} million pixels; at most {most / _MEGA:g} million are "
        "allowed. Save it smaller."
    )


def reason(data: bytes, converted: Container[str] = ()) -> str:
    """Return why a file is refused by a model that cannot decode it, as the end of a sentence.

    Args:
        data: The content of the file.
        converted: Names of other formats whose images are converted before the model is asked.

    Examples:
        >>> reason(b"milk, eggs")
        'the file is no image, but text. It begins with "milk, eggs".'
    """
    if why := _certain(data, converted):
        return why
    name = format_name(data)
    if is_cut_short(data):
        return f"the {name} file is cut short: its end is missing. {_AGAIN}"
    return f"the {name} file is damaged, or of a kind that is not accepted. {_AGAIN}"


def _certain(data: bytes, converted: Container[str]) -> str:
    """Return why no model decodes a file, as far as its first bytes tell; "" if one may."""
    if not data:
        return "the file is empty."
    kind = sniff(data)
    if kind:
        return _webp_kind(data) if kind == "WEBP" and kind not in converted else ""
    refused_format = other_format(data)
    if refused_format in converted:
        return ""
    if refused_format == HEIC:
        return f"HEIC, a format that is not accepted. {_SAVE} Or, {IPHONE_REMEDY}."
    name = known_format(data)
    if refused_format:
        return f"{name}, a format that is not accepted. {_SAVE}"
    if name:
        return f"the file is no image, but of another format: {name}. {_SAVE}"
    if text := text_of(data):
        return f'{IS_TEXT} It begins with "{text}".'
    return f"the file is no image of a known format, but {beginning(data)}. {_SAVE}"


def _webp_kind(data: bytes) -> str:
    """Return why a kind of WebP is refused: the decoder takes neither alpha nor animations."""
    kind = data[12:16]
    flags = data[_WEBP_FLAGS] if len(data) > _WEBP_FLAGS + 4 else 0
    if kind == b"VP8X" and flags & _ANIMATION:
        return f"an animated WebP file, a kind that is not accepted. {_SAVE}"
    has_alpha = data[24] & _WEBP_LOSSLESS_ALPHA if kind == b"VP8L" and len(data) > 24 else 0
    if has_alpha or (kind == b"VP8X" and flags & _ALPHA):
        return f"a WebP file with transparency, a kind that is not accepted. {_SAVE}"
    return ""


def is_cut_short(data: bytes) -> bool:
    """Return whether a file ends before its format says that it does."""
    kind = sniff(data)
    if kind == "JPEG":  # the marker EOI (ITU-T T.81, B.1.1.3)
        return b"\xff\xd9" not in data[-_TAIL:]
    if kind == "PNG":  # the last chunk
        return b"IEND" not in data[-_TAIL:]
    if kind == "GIF":  # the trailer, 0x3B (GIF89a, 27)
        return not data.rstrip(b"\0").endswith(b";")
    try:
        if kind == "BMP":  # the size of the file is in its header
            return struct.unpack("<I", data[2:6])[0] > len(data)
        if kind == "WEBP":  # a RIFF file; its size does not count the first eight bytes
            return struct.unpack("<I", data[4:8])[0] + 8 > len(data)
    except struct.error:
        return True
    return False
