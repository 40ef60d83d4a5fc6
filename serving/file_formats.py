"""Names of the formats of files, in the same words wherever a person reads them.

Images have the short names of Pillow, such as TIFF; all other files those of puremagic. Only the
first bytes are looked at, and no file is opened.
"""

from __future__ import annotations

import codecs
import re

from imgpipe.serving.image_header import sniff

HEIC = "HEIC"
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"hevc", b"mif1", b"msf1"}
_TIFF = "TIFF"
_TIFF_ENDINGS = (".tif", ".tiff")
#: Formats of Pillow that models decode, and CUR, which begins as TGA, a format without magic bytes.
_NOT_NAMED = {"JPEG", "MPO", "PNG", "GIF", "BMP", "WEBP", "CUR"}
_IN_WORDS = {"WEBP": "WebP", "JXL": "JPEG XL"}
_LFS_POINTER = "a pointer of Git LFS instead of the image"
_PICTURE = re.compile(r"image|photo|graphic|raw|\.pdf$", re.IGNORECASE)
_PACKED = (".zip", ".7z", ".rar", ".gz", ".bz2", ".xz", ".zst", ".tar")
_FILMS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".m4v", ".3gp", ".wmv")
_USUAL = (*_PACKED, *_FILMS, *_TIFF_ENDINGS, ".pdf")
_START = 200  # bytes in which text is recognised; an image has other bytes among them
_HEAD = 1 << 16  # bytes in which puremagic looks for a signature
_SHOWN = 40  # characters of a text that are quoted
_QUOTED = 12  # bytes of an unknown file that are quoted
_MAGIC = 16  # bytes by which Pillow's plugins recognise a format
_SURE = 0.3  # confidence of puremagic in a signature of three bytes; shorter ones are frequent


def described(data: bytes) -> tuple[str, str]:
    """Return the name or the beginning of a file that is no image, and what to do with it.

    Args:
        data: The content of a file that no decoder of images reads.

    Returns:
        For a person, such as ("MPEG-4 video file", "save the frames that you want: …").
    """
    name, ending = _by_signature(data)
    if name == _LFS_POINTER:
        remedy = "fetch the images: git lfs pull"
    elif ending in _PACKED:
        remedy = "unpack it, and put the images into the folder of their class"
    elif ending in _FILMS:
        remedy = "save the frames that you want: ffmpeg -i FILM -vf fps=1 frame%04d.png"
    elif other_format(data) or _PICTURE.search(f"{name} {ending}"):
        remedy = "open it in the program that wrote it, and export it as PNG or JPEG"
    else:
        remedy = "replace it by the image, or remove it"
    return known_format(data) or beginning(data), remedy


def known_format(data: bytes) -> str:
    """Return the name of the format of a file that models do not decode; "" for an unknown one."""
    name, ending = _by_signature(data)
    refused_format = other_format(data)
    # Photographs of many cameras begin as a TIFF file.
    if refused_format == _TIFF and name and ending not in _TIFF_ENDINGS:
        return name
    return refused_format or name


def beginning(data: bytes) -> str:
    """Return what a file of unknown format begins with."""
    if text := text_of(data):
        return f'text that begins with "{text}"'
    return f"a file that begins with the bytes {data[:_QUOTED].hex(' ')}"


def _by_signature(data: bytes) -> tuple[str, str]:
    """Return the name of a format and the usual ending of its files; empty if it is not known."""
    import puremagic  # needed only for files that are refused

    if data.startswith(b"version https://git-lfs"):
        return _LFS_POINTER, ""
    if data[128:132] == b"DICM":  # behind zeros, for which other formats have a signature
        return "DICOM image", ".dcm"
    if len(set(data[:_MAGIC])) == 1:  # an erased or unwritten file, which some signatures match
        return "", ""
    try:
        matches = puremagic.magic_string(data[:_HEAD])
    except (puremagic.PureError, ValueError):  # of its version 1
        matches = []
    if not matches:
        return "", ""
    # Many formats are packed as ZIP, and have the same signature.
    best = max(matches, key=lambda match: (match.confidence, match.extension in _USUAL))
    is_named = best.confidence >= _SURE and (best.extension or best.mime_type)
    return (best.name, best.extension) if is_named else ("", "")


def text_of(data: bytes) -> str:
    """Return the beginning of a file of text, in one line; "" for other files."""
    try:
        # The last character may be cut off, which is no error here.
        start = codecs.getincrementaldecoder("utf-8-sig")().decode(data[:_START])
    except UnicodeDecodeError:
        return ""
    text = " ".join(start.split())
    if not text.isprintable():
        return ""
    return text[:_SHOWN] + ("…" if len(text) > _SHOWN else "")


def format_name(data: bytes) -> str:
    """Return the name of the format of an image, such as `JPEG`; "" for an unknown one."""
    kind = sniff(data)
    return _IN_WORDS.get(kind, kind) or other_format(data)


def other_format(data: bytes) -> str:
    """Return the name of a format that models do not decode, such as `HEIC`; "" for none."""
    # The first box of such a file names its type and brand (ISO/IEC 14496-12, 4.3).
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS:
        return HEIC
    from PIL import Image  # needed only for files that are refused

    Image.init()
    start = data[:_MAGIC].ljust(_MAGIC, b"\0")  # plugins read numbers without looking for the end
    for name, (_, accepts) in Image.OPEN.items():
        # For a format that this build of Pillow lacks, the function returns a text and not True.
        if name not in _NOT_NAMED and accepts and accepts(start) is True:
            return name
    return ""
