"""Names the format of a file that is no image, and says how it becomes one."""

from __future__ import annotations

import puremagic

_LFS = b"version https://git-lfs"
_PACKED = (".zip", ".7z", ".rar", ".gz", ".bz2", ".xz", ".zst", ".tar")
_FILMS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".m4v", ".3gp", ".wmv")
_TEXT = 1000  # bytes that are looked at


def described(data: bytes) -> tuple[str, str]:
    """Return the name of a format, and what to do with such a file.

    Args:
        data: The content of a file that no decoder of images reads.

    Returns:
        For a person, such as ("a pointer of Git LFS instead of the image", "git lfs pull").
    """
    if data.startswith(_LFS):
        return "a pointer of Git LFS instead of the image", "fetch the images: git lfs pull"
    try:
        found = max(puremagic.magic_string(data), key=lambda one: one.confidence)
    except (puremagic.PureError, ValueError):
        return _unknown(data), "replace it by the image, or remove it"
    if found.extension in _PACKED:
        return found.name, "unpack it, and put the images into the folder of their class"
    if found.extension in _FILMS:
        return found.name, "save the frames that you want: ffmpeg -i FILM -vf fps=1 frame%04d.png"
    return found.name, "open it in the program that wrote it, and export it as PNG or JPEG"


def _unknown(data: bytes) -> str:
    head = data[:_TEXT]
    text = " ".join(head.decode("ascii", "replace").split())
    if head.isascii() and text.isprintable():
        return f"no image, but text: {text[:24]!r}"
    return f"an unknown format; it begins with {data[:12].hex(' ')}"
