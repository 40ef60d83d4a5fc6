"""An archive of a folder tree as a source: unpacked once, whole or not at all.

Members that lead out of the archive, links and devices are left out by name. An archive that is
damaged, or that expands more than images do, is refused as a whole.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import json
import os
import shutil
import stat
import tarfile
import tempfile
import threading
import time
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

from imgpipe.components.example_gen.sources.folder import add_folder
from imgpipe.components.example_gen.sources.images import FileReader, Listing
from imgpipe.components.example_gen.sources.layout import EXPECTED_TREE, SECOND_FOLDER
from imgpipe.components.example_gen.sources.walk import safe_path
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.files.atomic_write import TEMPORARY, move_folder, sync_tree
from imgpipe.models.settings.data import DataSettings

#: Endings of archives.
ENDINGS: Final = (".zip", ".tar", ".tar.gz", ".tgz")
_EXPECTED = f"expected an archive ({', '.join(ENDINGS)}) of a folder tree"
_AGAIN = (
    "If it is one of several parts, join them first. If the images are your own, download the "
    "archive again, or unpack it and name the folder."
)
_GZIP = b"\x1f\x8b\x08"  # RFC 1952, 2.3.1: two fixed bytes, and 8 for deflate
#: Unpacked bytes above which a compression ratio over `_BOMB_RATIO` is refused.
_BOMB_BYTES = 1 << 30
#: An archive of images has a ratio near 1; the largest possible ratio of deflate is 1032.
_BOMB_RATIO = 200
_CHUNK = 1 << 20  # bytes that are unpacked at once
_PADDING = 1 << 20  # bytes after the end mark of a tar that are examined
#: Compression methods of zip members that are read, whose decoders limit the size of the output.
#: The decoders of LZMA and bzip2 always unpack a whole block, however large it is.
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
#: What the libraries raise when a member is damaged or encrypted.
_DAMAGES = (
    *(zipfile.BadZipFile, zlib.error, tarfile.TarError),
    *(EOFError, RuntimeError, ValueError),
)
_UTF8_NAME = 0x800  # flag of a zip member whose name is marked as UTF-8
_FILES = "files"
NOTES: Final = "notes.json"  # written last: a folder without it is not whole
_DAY = 86_400  # seconds after which an unfinished folder is that of a killed process
_LEFT_OUT = "links, pipes, devices and sparse files in archives are not read"
_one_at_a_time = threading.Lock()

#: A member: its name, its kind ("file", "folder" or "special"), and what opens it.
_Member = tuple[str, str, Callable[[], "IO[bytes]"]]
#: What was left out: reason, name and detail, as `Notes.add` takes them.
_Note = tuple[str, str, str]


def list_archive(spec: str, options: DataSettings, store: str, least_classes: int) -> Listing:
    """List the images of an archive, which is unpacked into the store.

    Args:
        spec: Path of the archive.
        options: Settings of the source.
        store: Folder of the inspection cache; "" for a temporary folder of this process.
        least_classes: Number of classes that the source needs.

    Raises:
        ConfigError: It is no whole archive, or not laid out as expected.
        ResourceError: There is no space to unpack it.
    """
    file = Path(spec).expanduser().absolute()
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise ConfigError(f"data source {spec!r} {what}; {_EXPECTED}")
    reader = _ArchiveReader("", options.follow_links, str(file), store)
    try:
        folder, left_out = _unpacked(file, store)
    except OSError as error:
        why = f"data source {spec!r} cannot be read: {error.strerror or error}"
        raise ConfigError(f"{why}. {_AGAIN}") from None
    if left_out and not any(path.is_file() for path in folder.rglob("*")):
        _, name, detail = left_out[0]
        raise ConfigError(
            f"data source {spec!r}: found no file in it, but {name!r} ({detail}); {_EXPECTED}"
        )
    listing = Listing(spec, reader, EXPECTED_TREE, SECOND_FOLDER)
    for reason, name, detail in left_out:
        listing.notes.add(reason, name, detail)
    add_folder(listing, folder, options, least_classes, None)
    return listing


@dataclass(frozen=True)
class _ArchiveReader(FileReader):
    """Reads the unpacked files, which are unpacked again where they are gone."""

    archive: str = ""
    store: str = ""

    def folder(self) -> Path:
        """Return the folder of the unpacked files."""
        return _unpacked(Path(self.archive), self.store)[0]


def _unpacked(file: Path, store: str) -> tuple[Path, list[_Note]]:
    """Return the folder of an archive, which is unpacked unless it is there as it is now.

    Raises OSError if the file cannot be read, is damaged, or unpacks to far more data than images
    do, and ResourceError if the files cannot be written.
    """
    folder = Path(store) / "unpacked" if store else _temporary()
    status = file.stat()
    state = f"{status.st_mtime_ns}:{status.st_size}:{status.st_ino}"
    name, ending = (hashlib.sha256(text.encode()).hexdigest()[:16] for text in (str(file), state))
    target = folder / f"{name}-{ending}"
    if not (target / NOTES).is_file():
        with _one_at_a_time:
            if not (target / NOTES).is_file():
                _unpack(file, target)
                _remove([path for path in folder.glob(f"{name}-*") if path != target])
    return target / _FILES, _notes(target)


@functools.lru_cache(8)
def _notes(target: Path) -> list[_Note]:
    return [tuple(note) for note in json.loads((target / NOTES).read_text("utf-8"))]


def _temporary() -> Path:
    """Return the folder of this process for unpacked files, which is made again if it is gone."""
    with _one_at_a_time:  # several threads read at once
        if not Path(_temporary_folder().name).is_dir():
            _temporary_folder().cleanup()
            _temporary_folder.cache_clear()
        return Path(_temporary_folder().name)


@functools.cache
def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="imgpipe-unpacked-")


def _unpack(file: Path, target: Path) -> None:
    """Unpack an archive to a folder, which appears as a whole."""
    begun = target.parent.glob(f"{TEMPORARY}*")
    _remove([path for path in begun if path.stat().st_mtime < time.time() - _DAY])
    beside = target.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    try:
        (beside / _FILES).mkdir(mode=0o700, parents=True)
        notes = _write_members(file, beside / _FILES)
        (beside / NOTES).write_text(json.dumps(notes), "utf-8")
        sync_tree(beside)
        if not (target / NOTES).is_file():
            shutil.rmtree(target, ignore_errors=True)  # what a killed process has begun
        move_folder(beside, target, last=(NOTES,))
    except OSError as error:
        if (target / NOTES).is_file():  # another process was faster
            return
        if not error.errno:
            raise
        raise ResourceError(
            f"{file} cannot be unpacked to {target.parent}: {error.strerror}. Free space there, or "
            "unpack it yourself and name the unpacked one"
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _remove(folders: list[Path]) -> None:
    """Remove folders, none of which is taken for whole while it is removed."""
    for folder in folders:
        with contextlib.suppress(OSError):
            (folder / NOTES).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def _write_members(packed: Path, folder: Path) -> list[_Note]:
    """Unpack an archive into an empty folder, and return what is left out.

    A damaged archive or member is an OSError without a number.
    """
    with packed.open("rb") as file:
        head = file.read(len(_GZIP))
    if head.startswith(b"PK"):
        return _write(_zip_members(packed), folder)
    if head != _GZIP:
        return _write(_tar_members(packed), folder)
    plain = folder.with_name("plain.tar")
    _inflate(packed, plain)
    notes = _write(_tar_members(plain), folder)
    plain.unlink()
    return notes


def _write(members: Iterator[_Member], folder: Path) -> list[_Note]:
    notes: list[_Note] = []
    for name, kind, opened in members:
        path, unsafe = safe_path(name)
        if unsafe:
            notes.append(("unsafe_name", name, unsafe))
        elif kind == "special":
            notes.append(("special_file", path, _LEFT_OUT))
        elif kind == "folder":
            (folder / path).mkdir(parents=True, exist_ok=True)
        elif os.path.lexists(folder / path):
            raise OSError(f"{path!r} is the name of two members, which may differ in case")
        else:
            _write_member(opened, folder / path, path)
    return notes


def _write_member(opened: Callable[[], IO[bytes]], target: Path, path: str) -> None:
    """Unpack a member to a plain file, whose mode, owner and time are not taken over."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with opened() as member, target.open("wb") as out:
            shutil.copyfileobj(member, out)
    except _DAMAGES as error:
        raise OSError(f"{path!r} cannot be unpacked ({error})") from None


def _inflate(file: Path, target: Path) -> None:
    done = 0
    try:
        with file.open("rb") as packed, gzip.open(packed) as stream, target.open("wb") as out:
            while chunk := stream.read(_CHUNK):
                out.write(chunk)
                done += len(chunk)
                _check_ratio(done, packed.tell(), " so far")
    except gzip.BadGzipFile as error:
        raise OSError(f"the gzip stream is broken: {error}") from None
    except (zlib.error, EOFError) as error:
        raise OSError(f"the gzip stream is cut off or broken: {error}") from None


def _check_ratio(size: int, packed: int, when: str = "") -> None:
    if size > _BOMB_BYTES and size > _BOMB_RATIO * packed:
        raise OSError(
            f"it unpacks to more than {_BOMB_RATIO} times its size: {size >> 20} MiB{when}"
        )


def _zip_members(packed: Path) -> Iterator[_Member]:
    """Yield the members that the central directory of a zip lists.

    `zip` and macOS write UTF-8 without its flag (APPNOTE 4.4.4, bit 11), and `zipfile` reads names
    without this flag as code page 437.
    """
    try:
        with zipfile.ZipFile(packed) as archive:
            infos = archive.infolist()
            _check_ratio(sum(info.file_size for info in infos), packed.stat().st_size)
            for info in infos:
                name = info.orig_filename  # `filename` ends before the first NUL
                if not info.flag_bits & _UTF8_NAME:
                    name = name.encode("cp437").decode("utf-8", "surrogateescape")
                kind = "folder" if name.endswith(("/", "\\")) else "file"
                if stat.S_ISLNK(info.external_attr >> 16):
                    kind = "special"
                if kind == "file" and info.compress_type not in _ZIP_METHODS:
                    method = f"method {info.compress_type} of APPNOTE 4.4.5"
                    raise OSError(f"{name!r} is packed by {method}, and not by deflate")
                yield name, kind, functools.partial(archive.open, info)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise OSError(f"the zip is broken: {error}") from None


def _tar_members(plain: Path) -> Iterator[_Member]:
    """Yield the members of a tar in the order of the file."""
    number = 0
    try:
        with tarfile.open(plain, "r:") as archive:
            while (info := archive.next()) is not None:
                number += 1
                opened = cast("Any", functools.partial(archive.extractfile, info))
                is_file = info.isreg() and not info.issparse()
                kind = "folder" if info.isdir() else "file" if is_file else "special"
                yield info.name, kind, opened
                cast("Any", archive).members = []  # `tarfile` keeps every member in this list
            _require_end(plain, archive.offset)
    except (tarfile.TarError, ValueError, EOFError, OverflowError, RecursionError) as error:
        raise OSError(
            f"it is no archive, or cut off or broken after {number} members ({error}); {_EXPECTED}"
        ) from None


def _require_end(plain: Path, offset: int) -> None:
    """Require zeros after the members, because `tarfile` stops at any other block.

    The last record is filled with zeros, 10 KiB in most archives.
    """
    with plain.open("rb") as stream:
        stream.seek(offset)
        rest = stream.read(_PADDING)
    if len(rest) < tarfile.BLOCKSIZE or any(rest):
        raise tarfile.ReadError(
            "its end mark is missing, a header is damaged, or more data follows, as after "
            "`cat a.tar b.tar`. Unpack it with `tar --ignore-zeros -xf`, and name the folder"
        )
