"""What the name of a file tells: whether it is hidden, whether it is an image, and its stem.

Files that are not called images are told by their first bytes (`begins_as_image`).
"""

from __future__ import annotations

import functools
import mimetypes
import re
from collections.abc import Iterable

from imgpipe.serving.look import Look

#: Endings of images, also of those that nobody here decodes, which are rejected by name.
_OF_IMAGES = (
    ".jpg .jpeg .jpe .jfif .jif .mpo .png .apng .gif .webp .avif .bmp .dib .tif .tiff .jp2 .j2k "
    ".jpx .jpf .jpm .j2c .jxl .heic .heif .hif .ppm .pgm .pbm .pnm .pcx .sgi .rgb .qoi .tga .psd "
    ".svg .ico .icns .exr .hdr .dcm .eps .fits"
)
_IMAGES = frozenset(_OF_IMAGES.split())
#: Endings of other files that lie beside images, and that the table of `mimetypes` lacks.
_OF_OTHERS = (
    ".dng .nef .nrw .cr2 .cr3 .crw .arw .sr2 .srf .orf .rw2 .raf .pef .srw .x3f .3fr .iiq .dcr "
    ".kdc .mrw .rwl .tgz .gz .bz2 .tbz2 .xz .txz .zst .7z .rar .jsonl .ndjson .ods .parquet "
    ".feather .xlsx .lst .manifest .md .rst .yaml .yml .toml .ini .cfg .log .geojson .gpx .kml "
    ".ipynb .aae .xmp .pp3 .cls .docx .pptx .odt .odp .mkv .m2ts .mts .wmv .flv .lnk .url .webloc "
    ".pkl .npy .npz .mat .db .sqlite .tfrecord .tfrec .h5 .keras .pt .pth .onnx .tflite "
    ".safetensors .lrcat .m4a .ogg .flac .torrent"
)
_ARCHIVES = re.compile(
    r"\.(zip|tar|tgz|gz|bz2|tbz2|xz|txz|zst|7z|rar)(\.\d{1,4}|\.part\d+)?$|\.z\d\d$|\.r\d\d$", re.I
)
#: Names, in lower case, of what systems, network storage and archivers leave among files.
_SYSTEM_NAMES = frozenset(
    {
        *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "lost+found"),
        *("$recycle.bin", "recycler", "system volume information", "lost.dir", "found.000"),
        *("__pycache__", "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot"),
        *("@__thumb", "@tmp"),
    }
)
_SHORTEST = 3  # characters of an ending with its dot: leaf.a and leaf.b have none
#: What may be the ending of an unknown kind of files: .foo, and not .2023.
_MAY_BE_ENDING = re.compile(r"(?<=.)\.\d?[a-z][a-z0-9_~-]*$", re.IGNORECASE)
#: Bytes at the beginning of a file that tell whether it is an image.
HEAD = 512


def is_hidden(name: str) -> bool:
    """Whether files and folders with this name are passed over: dot files and those of systems."""
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def is_of_system(name: str) -> bool:
    """Whether a hidden name is that of a system, and no photograph whose name begins with a dot.

    Such are .DS_Store, .nomedia and, beside x.jpg, ._x.jpg of macOS.
    """
    return name.startswith("._") or name.lower() in _SYSTEM_NAMES or "." not in name[1:]


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
    return ending_of(path) in _IMAGES


def has_ending(path: str) -> bool:
    """Whether the name of a file ends as names of files do, also in an ending of no known kind."""
    return _MAY_BE_ENDING.search(path.rpartition("/")[2]) is not None


def may_hold_images(path: str) -> bool:
    """Whether a file that is no image may hold some, or stand for one, by its name.

    It is an archive or a part of one, or the ending of an image stands before that of another kind,
    as in .IMG_1.HEIC.icloud, which a cloud writes for a photograph that is to be downloaded.
    """
    name = path.rpartition("/")[2]
    before = _MAY_BE_ENDING.sub("", name)
    stands_for_image = before != name and ending_of(name) not in _endings() and is_image(before)
    return stands_for_image or _ARCHIVES.search(name) is not None


@functools.cache
def _endings() -> frozenset[str]:
    """Return the endings of all known kinds of files."""
    types = mimetypes.MimeTypes()  # the table of Python, and not that of the system
    endings = {ending for kinds in types.types_map for ending in kinds}
    endings.update(_IMAGES, _OF_OTHERS.split())
    return frozenset(ending for ending in endings if len(ending) >= _SHORTEST)


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


def begins_as_image(head: bytes) -> bool:
    """Whether the first `HEAD` bytes of a file are those of a format that is read."""
    # The libraries of the formats take a tenth of a second to load.
    from imgpipe.components.common.image_file.header import converted_formats

    look = Look(head)
    return bool(look.format) or look.other_format in converted_formats()
