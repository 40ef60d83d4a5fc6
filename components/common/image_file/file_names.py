"""What a file is: by its name, and by its first bytes, where these say anything.

The name says whether a file is hidden, its stem, and its kind by its ending. Sources ask for the
kinds of the files that are not called images, and the judge for those that nobody decodes. An
archive that came in parts is known by the names of its parts; nothing is joined or unpacked.
"""

from __future__ import annotations

import collections
import functools
import mimetypes
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Literal

from imgpipe.components.common.formatting import join_names
from imgpipe.serving.look import Look, text_of

#: What a file is.
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

#: Bytes at the beginning of a file that tell its kind.
HEAD = 512
#: The name of each kind in the singular and the plural, for a count of files that are not used.
NOUNS: Mapping[Kind, tuple[str, str]] = {
    "archive": ("archive", "archives"),
    "archive_part": ("part of an archive", "parts of archives"),
    "placeholder": ("file in place of an image", "files in place of images"),
    "empty": ("empty file", "empty files"),
    "zeros": ("file of nothing but zeros", "files of nothing but zeros"),
    "film": ("film", "films"),
    "camera_raw": ("camera raw file", "camera raw files"),
    "document": ("document", "documents"),
    "table": ("table", "tables"),
    "text": ("text", "texts"),
    "link": ("link", "links"),
    "other": ("file of another kind", "files of other kinds"),
}
_PACKED = ("which may hold images", "unpack each into a folder of its name")
_MISSING = ("which may not have been downloaded", "download it again, or remove it")
#: What files that are not used may stand for, and what to do. Somebody has to know it, however few
#: they are.
MAY_STAND_FOR: Mapping[Kind, tuple[str, str]] = {
    **dict.fromkeys(("archive", "archive_part"), _PACKED),
    **dict.fromkeys(("placeholder", "empty", "zeros"), _MISSING),
}
#: Signatures of what is no image (https://www.iana.org/assignments/media-types, and the
#: specifications of the formats). A film of ISO/IEC 14496-12 has a brand of no image.
_SIGNATURES: Sequence[tuple[bytes, Kind]] = (
    (rb"PK(\x03\x04|\x05\x06|\x07\x08)|\x1f\x8b\x08|BZh[1-9]1AY|\xfd7zXZ\x00", "archive"),
    (rb"7z\xbc\xaf\x27\x1c|Rar!\x1a\x07|\x28\xb5\x2f\xfd|.{257}ustar", "archive"),
    (rb"....ftyp(?!hei|hev|mif|msf|avi|crx)|RIFF....AVI |\x1aE\xdf\xa3|FLV\x01", "film"),
    (rb"\x00\x00\x01[\xba\xb3]|OggS|\x30\x26\xb2\x75", "film"),
    (rb"%PDF|\xd0\xcf\x11\xe0|\{\\rtf", "document"),
    (rb"....ftypcrx|FUJIFILMCCD-RAW|FOVb|II\x1a\x00\x00\x00HEAPCCDR|.{8}CR\x02", "camera_raw"),
    (rb"L\x00\x00\x00\x01\x14\x02\x00|XSym\n|IntxLNK|\[InternetShortcut\]", "link"),
    (rb"version https://git-lfs", "link"),
)
#: Formats that Pillow tells by their first bytes, and which are data or films.
_NO_PICTURES = {"HDF5", "GRIB", "BUFR", "MPEG", "FLI", "WMF"}
#: Names of the parts of one archive, and how these are joined.
_PARTS: Sequence[tuple[re.Pattern[str], str]] = tuple(
    (re.compile(pattern, re.IGNORECASE), how)
    for pattern, how in (
        (r"(.+)\.z\d\d", "join them: zip -s 0 {whole}.zip --out whole.zip"),
        (
            r"(.+\.(?:zip|7z|tar|tgz|gz|bz2|xz|zst))[-_.]?(?:part[-_.]?)?(?:\d{1,4}|[a-z]{2})",
            "join them: cat {whole}?* > {whole}",
        ),
        (r"(.+)\.(?:part\d+\.rar|r\d\d)", "unpack the first, which takes the others, to a folder"),
        (r"(.+)-\d{3}\.(?:zip|tgz|tar\.gz)", "unpack all of them into one folder"),
    )
)
#: How those are joined of which one part is called as a whole archive.
_SPANNED = {".zip": _PARTS[0][1], ".rar": _PARTS[2][1]}
_DOWNLOAD = _PARTS[-1][1]  # each part is an archive, and alone it is no part
_WHOLE = (".gz", ".xz")  # which are no parts, although two letters follow


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


def kind_of(head: bytes, name: str) -> Kind:
    """Tell what a file is.

    Args:
        head: Its first `HEAD` bytes, or all.
        name: Its name, which tells what its bytes do not: a table among texts.
    """
    by_name = kind_by_ending(name)
    signed: Kind | None = next(
        (kind for sign, kind in _SIGNATURES if re.match(sign, head, re.DOTALL)), None
    )
    if signed is None and head.strip(b"\0") and _is_picture(head):
        return "camera_raw" if by_name == "camera_raw" else "image"
    if signed is None and text_of(head):
        signed = "text"
    # Documents and tables are packed as archives, and lists are texts.
    is_finer = (signed, by_name) in (
        *(("archive", kind) for kind in ("document", "table", "other")),
        ("document", "table"),
        ("text", "table"),
        ("text", "link"),
    )
    if signed is not None:
        return by_name if by_name and is_finer else signed
    if by_name:
        return by_name
    if not head:
        return "empty"
    return "other" if head.strip(b"\0") else "zeros"


def _is_picture(head: bytes) -> bool:
    """Whether first bytes are those of an image, also of one that no model decodes."""
    look = Look(head)
    if look.format or head[128:132] == b"DICM" or head.startswith(b"\x89PNG"):
        return True
    return look.other_format not in ("", *_NO_PICTURES)


def no_images(paths: Sequence[str], kind: Callable[[str], Kind | None]) -> dict[str, Kind]:
    """Return the files of one folder that are no images, with their kinds.

    An image may have others of its name beside it that belong to it: camera raw, and files of an
    unknown kind such as x.foo and x.jpg.foo beside x.jpg. Where x.jpg is not there, x.jpg.foo is in
    its place, as clouds write it for an image that is to be downloaded.

    Args:
        paths: Paths of the files.
        kind: Tells what a file is that its ending does not call an image; None if nobody knows.
    """
    asked = [path for path in paths if kind_by_ending(path) != "image"]
    images = set(paths).difference(asked) if asked else ()
    of_images = companions(filter(has_ending, asked), images)
    files = [path.rpartition("/")[2] for path in asked]
    parts = joined(files)
    kinds: dict[str, Kind] = {}
    for path, name in zip(asked, files, strict=True):
        is_companion = path in of_images
        of_file = "archive_part" if name in parts else kind(path)
        if of_file is None or (of_file in ("image", "camera_raw") and not is_companion):
            continue
        if not is_companion and stands_for_image(path):
            of_file = "placeholder"
        kinds[path] = "other" if of_file == "image" else of_file
    return kinds


def joined(files: Collection[str]) -> dict[str, str]:
    """Return those of the files of one folder that are parts of archives, with how they are joined.

    Examples:
        >>> joined(["birds.zip", "cats.zip.001"])["cats.zip.001"]
        'cats.zip came in parts (cats.zip.001); join them: cat cats.zip?* > cats.zip'
    """
    archives = {name: archive for name in files if (archive := _numbered(name))}
    numbered = set(archives.values())
    for name in files:
        archive = name[:-4], _SPANNED.get(name[-4:].lower(), "")
        if archive in numbered:
            archives[name] = archive
    parts: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
    for name, archive in sorted(archives.items()):
        parts[archive].append(name)
    said: dict[str, str] = {}
    for (whole, how), names in parts.items():
        if how != _DOWNLOAD or len(names) > 1:
            what_to_do = how.format(whole=shlex.quote(whole))
            sentence = f"{whole} came in parts ({join_names(names, 4)}); {what_to_do}"
            said |= dict.fromkeys(names, sentence)
    return said


def _numbered(name: str) -> tuple[str, str] | None:
    """Return the archive of which a file is a part by its name, and how its parts are joined."""
    for pattern, how in _PARTS if kind_by_ending(name) in (None, "archive") else ():
        match = pattern.fullmatch(name)
        if match and (how == _DOWNLOAD or not name.lower().endswith(_WHOLE)):
            return match[1], how
    return None


def counted(kinds: Iterable[Kind]) -> str:
    """Count files that are no images: "2 archives, 50 films"."""
    counts = collections.Counter(kinds)
    return ", ".join(
        f"{counts[kind]:,} {several if counts[kind] > 1 else single}"
        for kind, (single, several) in NOUNS.items()
        if counts[kind]
    )
