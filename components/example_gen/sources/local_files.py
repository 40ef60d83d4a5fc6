"""Files that come from other people: safe reading, and archives that are unpacked into the cache.

A file of a data source may be a pipe that blocks, an endless device, a sparse file of terabytes or
a link to a private file outside of the source. These functions refuse all of them with an
`OSError` that names the reason, for all sources alike. Archives and gzip files are unpacked once,
whole or not at all.
"""

from __future__ import annotations

import contextlib
import errno
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
from pathlib import Path, PureWindowsPath
from typing import IO, Any, TypeVar, cast

from imgpipe.components.common.image_file import file_names
from imgpipe.components.common.image_file.file_names import is_hidden
from imgpipe.components.example_gen.notes import noted
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.files import regular_files
from imgpipe.models.files.atomic_write import TEMPORARY, move_folder, sync_tree
from imgpipe.models.finding import Finding
from imgpipe.serving.look import Look

#: Largest size in bytes of a file that is read (256 MiB). Folders of images may contain videos.
BYTE_LIMIT = 1 << 28
_Function = TypeVar("_Function", bound=Callable[..., Any])
#: Function that writes an unpacked form into an empty folder, and returns what it left out.
Unpacker = Callable[[Path], list[Finding]]
_Member = tuple[str, str, Callable[[], "IO[bytes]"]]  # name, kind, and what opens it

EXPECTED = "expected a .zip, .tar, .tar.gz or .tgz of a folder tree"
#: Endings of archives that are read.
READ = (".zip", ".tar", ".tar.gz", ".tgz")
GZIP_MAGIC = b"\x1f\x8b\x08"  # RFC 1952, 2.3.1: two fixed bytes, and 8 for deflate
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
NOTES = "notes.json"  # written last: a folder without it is not whole
_DAY = 86_400  # seconds after which an unfinished folder is that of a killed process
#: Why members of these kinds are left out.
_REFUSED = {
    "link": "links in archives are not followed",
    "special_file": "a pipe, device or sparse file is not read",
}
_one_at_a_time = threading.Lock()


def check_inside(file: Path, root: Path) -> None:
    """Raise an OSError if links lead from `file` out of `root`, or no file can have this path."""
    try:
        target = os.path.realpath(file)
        inside = Path(target).is_relative_to(os.path.realpath(root))
    except ValueError as error:
        raise OSError(errno.EINVAL, f"no file can have this path ({error})") from None
    if not inside:
        raise OSError(
            errno.EPERM,
            f"is a link to {target!r}, outside of the data source; use "
            "--set data.follow_links=true to read it",
        )


def described(file: Path) -> str:
    """Return what a file is in the words in which a rejected image is described."""
    try:
        with regular_files.open_regular(file) as stream:
            return Look(stream.read(_CHUNK)).described()[0]
    except OSError as error:
        return error.strerror or str(error)


def refuse_parts(source: str) -> None:
    """Raise a ConfigError if a file is one of several parts, with how they are joined."""
    path = Path(source).expanduser()
    beside = [entry.name for entry in visible(path.parent)]
    if said := file_names.joined(beside).get(path.name):
        raise ConfigError(f"data source {source!r} is not whole: {said}, and name that instead")


def visible(folder: Path) -> list[Path]:
    """Entries of a folder that are not hidden; an empty list when it cannot be read."""
    try:
        return [entry for entry in folder.iterdir() if not is_hidden(entry.name)]
    except OSError:
        return []


def visible_below(folder: Path) -> Iterator[str]:
    """Yield the path of each file below a folder, relative to it, that is not hidden."""
    for above, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for name in sorted(names):
            if not is_hidden(name):
                yield Path(above, name).relative_to(folder).as_posix()


def cached_until_changed(results: int) -> Callable[[_Function], _Function]:
    """Cache the last results of a function of a file's path, each until its file changes."""

    def decorate(function: _Function) -> _Function:
        @functools.lru_cache(results)
        def cached(version: tuple[int, ...], *arguments: Any) -> Any:
            return function(*arguments)

        @functools.wraps(function)
        def current(path: str, *arguments: Any) -> Any:
            status = Path(path).stat()
            return cached((status.st_mtime_ns, status.st_size, status.st_ino), path, *arguments)

        return cast("_Function", current)

    return decorate


def cache_folder(store: str) -> Path:
    """Return the cache in the folder `store`, or a temporary one of this process without it."""
    if store:
        return Path(store) / "unpacked"
    with _one_at_a_time:  # several threads read at once
        if not Path(_temporary_folder().name).is_dir():  # it was in that of an earlier command
            _temporary_folder().cleanup()
            _temporary_folder.cache_clear()
        return Path(_temporary_folder().name)


def kept(file: Path, folder: Path, unpack: Unpacker) -> tuple[Path, list[Finding]]:
    """Unpack a file, unless it is in the cache `folder` as it is now, where it replaces older ones.

    Returns the folder of the unpacked files, and notes of what was left out. Raises OSError if the
    file cannot be read, is damaged, or unpacks to far more data than images do, and ResourceError
    if the files cannot be written.
    """
    status = file.stat()
    state = f"{status.st_mtime_ns}:{status.st_size}:{status.st_ino}"
    name, ending = (hashlib.sha256(text.encode()).hexdigest()[:16] for text in (str(file), state))
    target = folder / f"{name}-{ending}"
    with _one_at_a_time:
        if not (target / NOTES).is_file():
            try:
                _write(target, unpack)
            except OSError as error:
                if not error.errno:
                    raise
                raise ResourceError(
                    f"{file} cannot be unpacked to {folder}: {error.strerror}. Free space there, "
                    "or unpack it yourself and name the unpacked one"
                ) from error
            _remove([path for path in folder.glob(f"{name}-*") if path != target])
    return target / _FILES, json.loads((target / NOTES).read_text("utf-8"))


def _write(target: Path, unpack: Unpacker) -> None:
    """Write an unpacked form, which appears as a whole."""
    begun = target.parent.glob(f"{TEMPORARY}*")
    _remove([path for path in begun if path.stat().st_mtime < time.time() - _DAY])
    beside = target.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    try:
        (beside / _FILES).mkdir(mode=0o700, parents=True)
        notes = unpack(beside / _FILES)
        (beside / NOTES).write_text(json.dumps(notes), "utf-8")
        sync_tree(beside)
        if not (target / NOTES).is_file():
            shutil.rmtree(target, ignore_errors=True)  # what a killed process has begun
        move_folder(beside, target, last=(NOTES,))
    except OSError:
        if not (target / NOTES).is_file():  # no other process was faster
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _remove(folders: list[Path]) -> None:
    """Remove folders, none of which is taken for whole while it is removed."""
    for folder in folders:
        with contextlib.suppress(OSError):
            (folder / NOTES).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


@functools.cache
def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="imgpipe-unpacked-")


def inflated(file: Path, store: str) -> Path:
    """Unpack a gzip file of one or several members once; `kept` has the errors."""

    def unpack(folder: Path) -> list[Finding]:
        _inflate(file, folder / "plain")
        return []

    folder, _ = kept(file, cache_folder(store), unpack)
    return folder / "plain"


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


def unpack_archive(packed: Path, folder: Path) -> list[Finding]:
    """Unpack a .zip, .tar or .tar.gz archive into an empty folder.

    Returns notes of members that are left out, because their paths lead out of the archive, or
    because they are links or devices. A damaged archive or member is an OSError.
    """
    with packed.open("rb") as file:
        head = file.read(len(GZIP_MAGIC))
    if head.startswith(b"PK"):
        return _unpack(_zip_members(packed), folder)
    if not head.startswith(GZIP_MAGIC):
        return _unpack(_tar_members(packed), folder)
    plain = folder.with_name("plain.tar")
    _inflate(packed, plain)
    notes = _unpack(_tar_members(plain), folder)
    plain.unlink()
    return notes


def _unpack(members: Iterator[_Member], folder: Path) -> list[Finding]:
    notes: list[Finding] = []
    for name, kind, opened in members:
        path, unsafe = safe_path(name)
        if unsafe:
            notes.append(noted("unsafe_name", name, unsafe))
        elif kind in _REFUSED:
            notes.append(noted(kind, path, _REFUSED[kind]))
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


def safe_path(name: str) -> tuple[str, str]:
    """Return the path below the root that a name means, or "" and why the name is unsafe."""
    # Zip demands forward slashes (APPNOTE 4.4.17.1), which not every archiver writes.
    path = PureWindowsPath(name)
    if path.drive or path.root:
        return "", "an absolute path"
    if ".." in path.parts:
        return "", "leads out of the archive"
    if "\0" in name:
        return "", "a NUL in the name"
    return "/".join(path.parts), ""


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
                    kind = "link"
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
                yield info.name, _tar_kind(info), opened
                cast("Any", archive).members = []  # `tarfile` keeps every member in this list
            _require_end(plain, archive.offset)
    except (tarfile.TarError, ValueError, EOFError, OverflowError, RecursionError) as error:
        raise OSError(
            f"it is no archive, or cut off or broken after {number} members ({error}); {EXPECTED}"
        ) from None


def _tar_kind(info: tarfile.TarInfo) -> str:
    if info.issym() or info.islnk():
        return "link"
    if info.isdir():
        return "folder"
    return "file" if info.isreg() and not info.issparse() else "special_file"


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
