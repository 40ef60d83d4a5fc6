"""The look at the bytes of a file: what they say of an image before any pixel is decoded.

The server, the client, `imgpipe predict` and the inspection of images look at a file in this one
way, and say the same words. TensorFlow's decoder describes its own inside ("jpeg::Uncompress
failed"), and cannot tell a text from a photograph of another format.
"""

from __future__ import annotations

import codecs
import functools
import re
import struct
from collections.abc import Container, Iterable

from imgpipe.serving.image_header import FORMATS, JXL, Format, NotFollowed, TooManyParts, gif_frames

IS_TEXT = "the file is no image, but text."
#: How an iPhone is told to write JPEG files.
IPHONE_REMEDY = "to get JPEG files from an iPhone: Settings › Camera › Formats › Most Compatible"
_AGAIN = "Copy or download the original again."
_SAVE = "Save the image as JPEG or PNG."
#: Parts of the messages of `tf.io.decode_image`.
_ABOUT_AN_IMAGE = re.compile(
    "Unknown image file format|Input is empty|jpeg::Uncompress|Invalid (?:PNG|GIF)|BMP|WebP|"
    "JPEG XL|JXL|Input size should match|[Nn]umber of channels|(?:Width|Height) must be"
)
_MEGA = 1_000_000
# Flags of the first chunk of an extended WebP file (RFC 9649, section 2.7.1).
_WEBP_FLAGS, _ALPHA, _ANIMATION = 20, 0x10, 0x02
_WEBP_LOSSLESS_ALPHA = 0x10  # of the last byte of the header of a lossless one
#: Why a file without a byte is refused.
EMPTY = "the file is empty."
HEIC = "HEIC"
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"hevc", b"mif1", b"msf1"}
_TIFF = "TIFF"
_TIFF_ENDINGS = (".tif", ".tiff")
#: Formats of Pillow that models decode, and CUR, which begins as TGA, a format without magic bytes.
_NOT_NAMED = {"JPEG", "MPO", "PNG", "GIF", "BMP", "WEBP", "CUR"}
_LFS_POINTER = "a pointer of Git LFS instead of the image"
_PICTURE = re.compile(r"image|photo|graphic|raw|\.pdf$", re.IGNORECASE)
#: Endings that are the most frequent ones of files with their signature.
_USUAL = (".zip", ".gz", ".tar", ".mp4", ".mov", ".avi", ".mkv", ".webm", ".pdf", *_TIFF_ENDINGS)
_START = 200  # bytes in which text is recognised; an image has other bytes among them
_HEAD = 1 << 16  # bytes in which puremagic looks for a signature
_SHOWN = 40  # characters of a text that are quoted
_QUOTED = 12  # bytes of an unknown file that are quoted
_MAGIC = 16  # bytes by which Pillow's plugins recognise a format
_UNKNOWN = (1 << 16) - 1  # side of an image with too many parts, which is over every limit
UNKNOWN_PIXELS = _UNKNOWN * _UNKNOWN
_SURE = 0.3  # confidence of puremagic in a signature of three bytes; shorter ones are frequent


class Look:
    """What the bytes of a file say of the image in them. Each answer is found once, when asked for.

    Attributes:
        format: The format by which `tf.io.decode_image` recognises the first bytes; "" for none.
        format_in_words: Name of this format for a person.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        recognised = (row for row in FORMATS if re.match(row.magic, data, re.DOTALL))
        self._read = next(recognised, Format(""))
        self.format = self._read.name
        self.format_in_words = self._read.in_words

    @functools.cached_property
    def size(self) -> tuple[int, int]:
        """(width, height), of an animation that of the canvas; (0, 0) if it cannot be read."""
        try:
            return self._read.size(self.data)
        except TooManyParts:
            return _UNKNOWN, _UNKNOWN
        except (struct.error, IndexError, NotFollowed):
            return 0, 0

    @functools.cached_property
    def pixels(self) -> int:
        """Number of pixels that are decoded, of a GIF those of all frames; 0 if it is unknown."""
        width, height = self.size
        if self.format != "GIF":
            return width * height
        try:
            return max(gif_frames(self.data), width * height)
        except (struct.error, IndexError):
            return 0
        except TooManyParts:
            return UNKNOWN_PIXELS

    @functools.cached_property
    def hidden_cost(self) -> str:
        """Why the image costs much more than its number of pixels tells; "" if it does not."""
        # A PNG of one pixel can take gigabytes of memory, and a JPEG of one kilobyte many seconds.
        try:
            return self._read.hidden_cost(self.data)
        except (struct.error, IndexError):  # the decoder refuses a file that ends within a header
            return ""
        except NotFollowed as error:
            return str(error)

    @functools.cached_property
    def is_cut_short(self) -> bool:
        """Whether the file ends before its format says that it does."""
        try:
            return self._read.is_cut_short(self.data)
        except struct.error:
            return True

    @property
    def is_heic(self) -> bool:
        """Whether the first box names a brand of HEIC (ISO/IEC 14496-12, 4.3)."""
        return self.data[4:8] == b"ftyp" and self.data[8:12] in _HEIC_BRANDS

    @functools.cached_property
    def other_format(self) -> str:
        """Name of the format if models do not decode it, such as `HEIC`; "" for none."""
        if self.is_heic:
            return HEIC
        from PIL import Image  # needed only for files that are refused

        Image.init()
        start = self.data[:_MAGIC].ljust(_MAGIC, b"\0")  # plugins do not look for the end
        for name, (_, accepts) in Image.OPEN.items():
            # For a format that this build of Pillow lacks, the function returns a text, not True.
            if name not in _NOT_NAMED and accepts and accepts(start) is True:
                return name
        return ""

    @functools.cached_property
    def _name_and_ending(self) -> tuple[str, str]:
        """Name of a format that models do not decode, and the usual ending of its files."""
        name, ending = _by_signature(self.data)
        # Photographs of many cameras begin as a TIFF file.
        if self.other_format == _TIFF and name and ending not in _TIFF_ENDINGS:
            return name, ending
        return self.other_format or name, ending

    def described(self) -> tuple[str, str]:
        """Return the name or the beginning of a file that is no image, and what to do with it."""
        name, ending = self._name_and_ending
        if name == _LFS_POINTER:
            remedy = "fetch the images: git lfs pull"
        elif self.other_format or _PICTURE.search(f"{name} {ending}"):
            remedy = "open it in the program that wrote it, and export it as PNG or JPEG"
        else:
            remedy = "replace it by the image, or remove it"
        return name or _beginning(self.data), remedy

    def refusal(self, converted: Container[str] = ()) -> str:
        """Return why a model that cannot decode the file refuses it, as the end of a sentence.

        Args:
            converted: Names of other formats whose images are converted before the model is asked.

        Examples:
            >>> Look(b"milk, eggs").refusal()
            'the file is no image, but text. It begins with "milk, eggs".'
        """
        if why := self.certain_refusal(converted):
            return why
        name = self.format_in_words or self.other_format
        if self.is_cut_short:
            return f"the {name} file is cut short: its end is missing. {_AGAIN}"
        return f"the {name} file is damaged, or of a kind that is not accepted. {_AGAIN}"

    def certain_refusal(self, converted: Container[str]) -> str:
        """Return why no model decodes the file, as far as its first bytes tell; "" if one may."""
        if not self.data:
            return EMPTY
        if self.format == JXL:
            return f"{self.format_in_words}, a format that is not accepted. {_SAVE}"
        if self.format:
            is_webp = self.format == "WEBP" and self.format not in converted
            return _webp_kind(self.data) if is_webp else ""
        if self.other_format in converted:
            return ""
        if self.other_format == HEIC:
            return f"HEIC, a format that is not accepted. {_SAVE} Or, {IPHONE_REMEDY}."
        name, _ = self._name_and_ending
        if self.other_format:
            return f"{name}, a format that is not accepted. {_SAVE}"
        if name:
            return f"the file is no image, but of another format: {name}. {_SAVE}"
        if text := text_of(self.data):
            return f'{IS_TEXT} It begins with "{text}".'
        return f"the file is no image of a known format, but {_beginning(self.data)}. {_SAVE}"


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
        return Look(received[0]).refusal(converted)
    for row, image in enumerate(received):
        if why := Look(image).certain_refusal(converted):
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


def _beginning(data: bytes) -> str:
    if not data.strip(b"\0"):
        return "nothing but zeros, as a file that was not downloaded"
    if text := text_of(data):
        return f'text that begins with "{text}"'
    return f"a file that begins with the bytes {data[:_QUOTED].hex(' ')}"


def _by_signature(data: bytes) -> tuple[str, str]:
    """Return the name of a format and the usual ending of its files; empty if it is not known."""
    import puremagic  # needed only for files that are refused

    if data.startswith(b"version https://git-lfs"):
        return _LFS_POINTER, ""
    # The signature of PNG has newlines of both kinds for this purpose (PNG 3rd edition, 5.2).
    if data.startswith(b"\x89PNG"):
        return "PNG whose newlines were converted", ""
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
