"""What a file is: by its first bytes, and only where these say nothing, by its ending.

Sources ask it of the files that are not called images, and the judge of those that nobody decodes.
An archive that came in parts is known by the names of its parts; nothing is joined or unpacked.
"""

from __future__ import annotations

import collections
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from imgpipe.components.common.formatting import join_names
from imgpipe.components.common.image_file import file_names
from imgpipe.components.common.image_file.file_names import Kind
from imgpipe.serving.look import Look, text_of

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


def kind_of(head: bytes, name: str) -> Kind:
    """Tell what a file is.

    Args:
        head: Its first `HEAD` bytes, or all.
        name: Its name, which tells what its bytes do not: a table among texts.
    """
    by_name = file_names.kind_by_ending(name)
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
    asked = [path for path in paths if file_names.kind_by_ending(path) != "image"]
    images = set(paths).difference(asked) if asked else ()
    companions = file_names.companions(filter(file_names.has_ending, asked), images)
    files = [path.rpartition("/")[2] for path in asked]
    parts = joined(files)
    kinds: dict[str, Kind] = {}
    for path, name in zip(asked, files, strict=True):
        is_companion = path in companions
        of_file = "archive_part" if name in parts else kind(path)
        if of_file is None or (of_file in ("image", "camera_raw") and not is_companion):
            continue
        if not is_companion and file_names.stands_for_image(path):
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
    for pattern, how in _PARTS if file_names.kind_by_ending(name) in (None, "archive") else ():
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
