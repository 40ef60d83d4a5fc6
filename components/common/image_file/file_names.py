"""What the name of a file says: whether it is hidden, its stem, and its kind by its ending."""

from __future__ import annotations

import functools
import mimetypes
import re
from collections.abc import Iterable, Mapping
from typing import Literal

#: What a file is, which `file_kinds` tells.
Kind = Literal[
    "image",
    "archive",
    "archive_part",
    "table",
    "text",
    "document",
    "film",
    "camera_raw",
    "link",
    "placeholder",
    "empty",
    "zeros",
    "other",
]
#: Endings by kind, also those that the table of `mimetypes` lacks or calls otherwise. Camera raw is
#: the values of the sensor, with a small preview that other programs show.
_ENDINGS: Mapping[Kind, str] = {
    "image": ".jpg .jpeg .jpe .jfif .jif .mpo .png .apng .gif .webp .avif .bmp .dib .tif .tiff "
    ".jp2 .j2k .jpx .jpf .jpm .j2c .jxl .heic .heif .hif .ppm .pgm .pbm .pnm .pcx .sgi .rgb .qoi "
    ".tga .psd .svg .ico .icns .exr .hdr .dcm .eps .fits",
    "camera_raw": ".dng .nef .nrw .cr2 .cr3 .crw .arw .sr2 .srf .orf .rw2 .raf .pef .srw .x3f .3fr "
    ".iiq .dcr .kdc .mrw .rwl",
    "archive": ".zip .tar .tgz .gz .bz2 .tbz2 .xz .txz .zst .7z .rar",
    "table": ".csv .tsv .jsonl .ndjson .xlsx .xls .ods .parquet .feather .lst .manifest",
    "text": ".md .rst .yaml .yml .toml .ini .cfg .log .json .xml .geojson .gpx .kml .ipynb .aae "
    ".xmp .pp3 .cls .js .sh .py",
    "document": ".pdf .doc .docx .ppt .pptx .odt .odp .rtf .ps .tex",
    "film": ".mkv .m2ts .mts .3gp .wmv .flv",
    "link": ".lnk .url .webloc",
    "other": ".pkl .npy .npz .mat .db .sqlite .tfrecord .tfrec .h5 .keras .pt .pth .onnx .tflite "
    ".safetensors .lrcat .m4a .ogg .flac .torrent .bin",
}
#: Names, in lower case, of what systems, network storage and archivers leave among files.
SYSTEM_NAMES = {
    *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "lost+found"),
    *("$recycle.bin", "recycler", "system volume information", "lost.dir", "found.000"),
    *("__pycache__", "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot"),
    *("@__thumb", "@tmp"),
}
#: What may be the ending of an unknown kind of files: .foo, and not .2023.
_MAY_BE_ENDING = re.compile(r"(?<=.)\.\d?[a-z][a-z0-9_~-]*$", re.IGNORECASE)
_SHORTEST = 3  # characters of an ending with its dot: leaf.a and leaf.b have none


def is_hidden(name: str) -> bool:
    """Whether files and folders with this name are ignored: dot files and those of systems.

    A cloud writes .x.jpg.icloud instead of a photograph that is to be downloaded.
    """
    is_dotted = name.startswith("._") or (name.startswith(".") and not stands_for_image(name))
    return is_dotted or name.lower() in SYSTEM_NAMES


def hidden_kind(name: str) -> str:
    """Return the kind of note about a hidden file: one of a system has no ending.

    Such are .DS_Store, .nomedia and, beside x.jpg, ._x.jpg of macOS.
    """
    is_of_system = name.startswith("._") or name.lower() in SYSTEM_NAMES or "." not in name[1:]
    return "hidden" if is_of_system else "hidden_file"


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
    endings = _endings()
    last = ""
    while True:
        before, dot, behind = name.rpartition(".")
        ending = dot + behind.lower()
        if not before or ending not in endings:
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
    return kind_by_ending(path) in ("image", "camera_raw")


def has_ending(path: str) -> bool:
    """Whether the name of a file ends as names of files do, also in an ending of no known kind."""
    return _MAY_BE_ENDING.search(path.rpartition("/")[2]) is not None


def stands_for_image(path: str) -> bool:
    """Whether an ending of no known kind follows that of an image: x.jpg.cloud, x.jpg.icloud."""
    before = _MAY_BE_ENDING.sub("", path)
    return before != path and kind_by_ending(path) is None and is_image(before)


def kind_by_ending(path: str) -> Kind | None:
    """Return what the ending of a file's name says that it is; None for an unknown one, or none."""
    return _endings().get(ending_of(path))


@functools.cache
def _endings() -> Mapping[str, Kind]:
    """Return the endings of all known kinds of files."""
    types = mimetypes.MimeTypes()  # the table of Python, and not that of the system
    of_type: Mapping[str, Kind] = {"image": "image", "video": "film", "text": "text"}
    endings: dict[str, Kind] = {
        ending: of_type.get(kind.partition("/")[0], "other")
        for kinds in types.types_map
        for ending, kind in kinds.items()
    }
    for kind, named in _ENDINGS.items():
        endings |= dict.fromkeys(named.split(), kind)
    return {ending: kind for ending, kind in endings.items() if len(ending) >= _SHORTEST}


def companions(paths: Iterable[str], images: Iterable[str]) -> set[str]:
    """Return the files that belong to one of some images by their names.

    Beside x.jpg, such are x, x.xml, x.NEF, x.jpg.json and x.foo, whose ending is of no known kind.
    """
    names = {path.rpartition("/")[2].lower() for path in images}
    names |= {stem_and_ending(name)[0] for name in names}

    def belongs(path: str) -> bool:
        name = path.rpartition("/")[2].lower()
        beginnings = (name[:place] for place, sign in enumerate(name) if sign == ".")
        return stem_and_ending(name)[0] in names or any(map(names.__contains__, beginnings))

    return {path for path in paths if belongs(path)}
