"""What the name of a file says: that it is hidden, an image, or something else."""

from __future__ import annotations

import functools
import mimetypes
import re
from collections.abc import Iterable

#: Camera raw: the values of the sensor, with a small preview that other programs show.
RAW = frozenset(
    (".dng", ".nef", ".nrw", ".cr2", ".cr3", ".crw", ".arw", ".sr2", ".srf", ".orf", ".rw2")
) | {".raf", ".pef", ".srw", ".x3f", ".3fr", ".iiq", ".dcr", ".kdc", ".mrw", ".rwl"}
_IMAGES = RAW | {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".png", ".apng", ".gif", ".webp", ".avif"),
    *(".bmp", ".dib", ".tif", ".tiff", ".jp2", ".j2k", ".jpx", ".jpf", ".jpm", ".j2c", ".jxl"),
    *(".heic", ".heif", ".hif", ".ppm", ".pgm", ".pbm", ".pnm", ".pcx", ".sgi", ".rgb", ".qoi"),
    *(".tga", ".psd", ".svg", ".ico", ".icns", ".exr", ".hdr", ".dcm", ".eps", ".fits"),
}
_SURE = _IMAGES - RAW  # a raw file may also belong to the image that was made of it
#: Kinds of files that the table of `mimetypes` lacks.
_OTHERS = {
    *(".md", ".rst", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".log", ".jsonl", ".ndjson"),
    *(".docx", ".xlsx", ".pptx", ".odt", ".ods", ".odp"),
    *(".ipynb", ".pkl", ".npy", ".npz", ".mat", ".parquet", ".feather", ".db", ".sqlite"),
    *(".tfrecord", ".tfrec", ".h5", ".keras", ".pt", ".pth", ".onnx", ".tflite", ".safetensors"),
    *(".aae", ".xmp", ".lrcat", ".pp3", ".cls", ".lst", ".rar", ".7z", ".gz", ".xz", ".zst"),
    *(".mkv", ".m2ts", ".mts", ".3gp", ".wmv", ".flv", ".m4a", ".ogg", ".flac"),
    *(".geojson", ".gpx", ".kml", ".lnk", ".url", ".torrent"),
}
#: Names, in lower case, of what systems, network storage and archivers leave among files.
SYSTEM_NAMES = {
    *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "lost+found"),
    *("$recycle.bin", "recycler", "system volume information", "lost.dir", "found.000"),
    *("__pycache__", "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot"),
    *("@__thumb", "@tmp"),
}
_SUFFIX = re.compile(r"\.\d?[a-z][a-z0-9_-]*")  # .jpg, .7z


def is_hidden(name: str) -> bool:
    """Whether files and folders with this name are ignored: dot files and those of systems."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def hidden_kind(name: str) -> str:
    """Return the kind of note about a hidden file; macOS writes ._x.jpg beside x.jpg."""
    return "hidden_image" if is_image(name) and not name.startswith("._") else "hidden"


def suffix(path: str) -> str:
    """Return the suffix of a file's name in lower case; "" for none, as in `IMG.2023`."""
    return _checked(_parts(path)[1])


def is_image(path: str) -> bool:
    """Whether the suffix of a file's name is that of an image."""
    return suffix(path) in _IMAGES


def claims_to_be_image(path: str) -> bool:
    """Whether a file counts as an image by its name: its suffix says so, or it has none."""
    return is_image(path) or not suffix(path)


@functools.cache
def _types() -> mimetypes.MimeTypes:
    return mimetypes.MimeTypes()  # the table of Python, and not that of the system


@functools.cache
def _is_other(ending: str) -> bool:
    """Whether a suffix is that of a text, a table, a film, an archive or a program."""
    if not ending or ending in _IMAGES:
        return False
    kind = _types().guess_type(f"x{ending}", strict=False)[0] or ""
    return ending in _OTHERS or bool(kind and not kind.startswith("image/"))


def beside_images(paths: Iterable[str]) -> set[str]:
    """Return the files of one folder that are no images by their names.

    Args:
        paths: Paths of the files of a folder.

    Returns:
        Those of another kind, and those of an unknown kind or camera raw that have the name of an
        image beside them, as x.foo and x.jpg.foo beside x.jpg.
    """
    files = list(paths)
    asked = [path for path in files if suffix(path) not in _SURE]
    if not asked:
        return set()
    stems = {stem(path) for path in files if suffix(path) in _SURE}

    def is_beside_an_image(path: str) -> bool:
        return suffix(path) != "" and not stems.isdisjoint((stem(path), stem(stem(path))))

    return {path for path in asked if _is_other(suffix(path)) or is_beside_an_image(path)}


def stem(path: str) -> str:
    """Return the name of a file in lower case, without its folders and its suffix."""
    return _parts(path)[0]


def _parts(path: str) -> tuple[str, str]:
    """Return what is before the last dot of a name, and the rest; twice as fast as `posixpath`."""
    name = path.rpartition("/")[2].lower()
    before, dot, behind = name.rpartition(".")
    return (before, dot + behind) if before else (name, "")


@functools.cache
def _checked(ending: str) -> str:
    return ending if _SUFFIX.fullmatch(ending) else ""
