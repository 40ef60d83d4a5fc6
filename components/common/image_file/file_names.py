"""What the name of a file says: whether it is hidden, its stem, and its kind by its ending."""

from __future__ import annotations

import functools
import mimetypes
import re
from collections.abc import Iterable, Mapping, Set

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
#: What may be the ending of an unknown kind of files: .foo, and not .2023.
_MAY_BE_ENDING = re.compile(r"(?<=.)\.\d?[a-z][a-z0-9_-]*$", re.IGNORECASE)
_SHORTEST = 3  # characters of an ending with its dot: leaf.a and leaf.b have none


def is_hidden(name: str) -> bool:
    """Whether files and folders with this name are ignored: dot files and those of systems."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def hidden_kind(name: str) -> str:
    """Return the kind of note about a hidden file; macOS writes ._x.jpg beside x.jpg."""
    return "hidden_image" if is_image(name) and not name.startswith("._") else "hidden"


def stem_and_ending(path: str) -> tuple[str, str]:
    """Take the name of a file apart. All that a name tells of an image is read from its stem.

    An ending is that of a known kind of files; other points in a name are a part of it. A stem has
    no ending, so that files that belong to each other (x.jpg, x.png, x.jpg.json, x) have the same.

    Args:
        path: Name of a file, with or without its folders.

    Returns:
        (stem, last ending in lower case or "").

    Examples:
        >>> stem_and_ending("cat/elk.7.JPG"), stem_and_ending("cat/elk.7")
        (('elk.7', '.jpg'), ('elk.7', ''))
        >>> stem_and_ending("x.jpg.json")
        ('x', '.json')
    """
    name = path.rpartition("/")[2]
    last = ""
    while True:
        before, dot, behind = name.rpartition(".")
        ending = dot + behind.lower()
        if not before or ending not in _endings():
            return name, last
        name = before
        last = last or ending


def without_ending(path: str) -> str:
    """Return a path whose file has no ending."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{stem_and_ending(name)[0]}"


def ending_of(path: str) -> str:
    """Return the ending of a file's name in lower case; "" for none, as in `IMG.2023`."""
    return stem_and_ending(path)[1]


def is_image(path: str) -> bool:
    """Whether the ending of a file's name is that of an image."""
    return ending_of(path) in _IMAGES


def claims_to_be_image(path: str) -> bool:
    """Whether a file counts as an image by its name: its ending says so, or it has none."""
    return is_image(path) or not _MAY_BE_ENDING.search(path.rpartition("/")[2])


@functools.cache
def _endings() -> Mapping[str, bool]:
    """Return the endings of all known kinds of files, each with whether it is that of a picture."""
    types = mimetypes.MimeTypes()  # the table of Python, and not that of the system
    kinds = types.types_map[0] | types.types_map[1]
    endings = {ending: kind.startswith("image/") for ending, kind in kinds.items()}
    endings |= dict.fromkeys((*types.encodings_map, *types.suffix_map, *_OTHERS), False)
    endings |= dict.fromkeys(_IMAGES, True)
    return {ending: kind for ending, kind in endings.items() if len(ending) >= _SHORTEST}


def beside_images(paths: Iterable[str]) -> set[str]:
    """Return the files of one folder that are no images by their names.

    Args:
        paths: Paths of the files of a folder.

    Returns:
        Those of another kind, and those of an unknown kind or camera raw that have the name of an
        image beside them, as x.foo and x.jpg.foo beside x.jpg.
    """
    asked: list[tuple[str, str]] = []
    stems: set[str] = set()
    for path in paths:
        stem, ending = stem_and_ending(path)
        if ending in _SURE:
            stems.add(stem.lower())
        else:
            asked.append((path, ending))
    return {path for path, ending in asked if _is_no_image(path, ending, stems)}


def _is_no_image(path: str, ending: str, stems: Set[str]) -> bool:
    """Whether a file is of another kind than an image, or belongs to one of these beside it."""
    if not _endings().get(ending, True):
        return True
    before = _MAY_BE_ENDING.sub("", path)
    return before != path and stem_and_ending(before)[0].lower() in stems
