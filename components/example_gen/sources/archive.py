"""A .zip, .tar or .tar.gz archive as a source. A compressed tar is unpacked to one file first.

Dangerous members are refused, each with its name: paths that lead out of the archive, links,
devices and encrypted members. Data that expands more than images do is refused as a whole. The
paths of the members determine labels and splits, as in a folder tree.
"""

from __future__ import annotations

import collections
import contextlib
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from imgpipe.components.example_gen.settings import SourceOptions
from imgpipe.components.example_gen.sources import no_classes, unpacking
from imgpipe.components.example_gen.sources.base import (
    REFUSED,
    Item,
    Note,
    Scan,
    Source,
    SourceKind,
)
from imgpipe.components.example_gen.sources.layout import lay_out
from imgpipe.components.example_gen.sources.local_files import (
    BOMB_BYTES,
    BOMB_RATIO,
    BYTE_LIMIT,
    GZIP_MAGIC,
    cached_until_changed,
    inflated,
)
from imgpipe.models.errors import ConfigError
from imgpipe.serving.look import Look

#: Endings of archives that are read; the others get an error that says so.
_READ = (".zip", ".tar", ".tar.gz", ".tgz")
_HEAD = 4096  # bytes by which the format of a file is named
_PADDING = 1 << 20  # bytes after the end mark of a tar that are examined
#: Compression methods of zip members that are read, whose decoders limit the size of the output.
#: The decoders of LZMA and bzip2 always unpack a whole block, however large it is.
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_UTF8_NAME = 0x800  # flag of a zip member whose name is marked as UTF-8
_EXPECTED = "expected a .zip, .tar, .tar.gz or .tgz of a folder tree"
_AGAIN = "If the images are your own, download the archive again, or unpack it and name the folder."


def takes(locator: str, options: SourceOptions) -> bool:
    """Whether a plain path names an archive."""
    return locator.lower().endswith(unpacking.ENDINGS) and not Path(locator).expanduser().is_dir()


@dataclass
class _Members:
    """Collects the members of an archive."""

    items: list[Item] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def add(self, name: str, kind: str, size: int, locator: str) -> None:
        """Add one member; `kind` is file, folder, link or special."""
        path, unsafe = safe_path(name)
        if unsafe:
            self.notes.append(Note("unsafe_name", name, unsafe))
        elif kind == "link":
            self.notes.append(Note("link", path, "links in archives are not followed"))
        elif kind == "special":
            self.notes.append(Note("special_file", path, "a pipe or device is not read"))
        elif kind == "folder":
            self.folders += [path] if path else []
        elif size > BYTE_LIMIT and not locator.startswith(REFUSED):
            limit = f"larger than {BYTE_LIMIT >> 20} MiB when unpacked ({size:,} bytes)"
            self.items.append(Item(path, locator=REFUSED + limit))
        else:
            self.items.append(Item(path, locator=locator))


def safe_path(name: str) -> tuple[str, str]:
    """Convert the name of a member to a path below the archive's root.

    Args:
        name: Name of the member.

    Returns:
        The path and "", or "" and the reason why the name is unsafe.
    """
    # Zip demands forward slashes (APPNOTE 4.4.17.1), which not every archiver writes.
    parts = name.replace("\\", "/").split("/")
    if not parts[0] and len(parts) > 1:
        return "", "an absolute path"
    if re.match(r"^[A-Za-z]:", name):
        return "", "a drive letter"
    if ".." in parts:
        return "", "leads out of the archive"
    if "\0" in name:
        return "", "a NUL in the name"
    return "/".join(part for part in parts if part not in ("", ".")), ""


def repeated(members: Iterable[Item]) -> tuple[list[Item], list[Note]]:
    """Keep one item for each path, the last one as archivers do, and note the others."""
    last: dict[str, Item] = {}
    times: collections.Counter[str] = collections.Counter()
    for item in members:
        times[item.path] += 1
        last[item.path] = item
    notes = [
        Note("repeated_name", path, f"{count} members of this name; the last one counts")
        for path, count in times.items()
        if count > 1
    ]
    return list(last.values()), notes


@dataclass(frozen=True)
class ArchiveSource(Source):
    """One archive on a local or mounted file system."""

    file: str
    options: SourceOptions

    def listing(self) -> Scan:
        """Read the table of contents; see `Source.listing`.

        Raises:
            ConfigError: The archive cannot be read, is damaged, or holds no file.
            ResourceError: There is no space to unpack a compressed tar.
        """
        path = self._path()
        if path.is_dir():
            raise ConfigError(f"data source {self.file!r} is a folder; {_EXPECTED}")
        if not path.is_file():
            raise ConfigError(f"data source {self.file!r} does not exist; {_EXPECTED}")
        members = _Members()
        try:
            self._collect(path, members)
        except OSError as error:
            with path.open("rb") as file:
                name, _ = Look(file.read(_HEAD)).described()
            if not self.file.lower().endswith(_READ):
                raise ConfigError(
                    f"data source {self.file!r} is not read (it is: {name}); {_EXPECTED}. "
                    f"{unpacking.advice(path)}"
                ) from None
            raise ConfigError(
                f"data source {self.file!r} cannot be read: {error.strerror or error}. {_AGAIN}"
            ) from None
        items, notes = repeated(members.items)
        notes += members.notes
        if not items and not members.folders:
            why = f", but {notes[0].path!r} ({notes[0].detail})" if notes else ""
            raise ConfigError(f"data source {self.file!r}: found no file in it{why}; {_EXPECTED}")
        scan = lay_out(self.file, items, members.folders, notes, self.options)
        return no_classes.check_lists(self, self.file, items, scan, self.options)

    def read(self, item: Item) -> bytes:
        """Read one member; see `Source.read`.

        Raises:
            OSError: The member is damaged, or the archive ends before it.
        """
        if item.locator.startswith(REFUSED):
            raise OSError(item.locator[1:])
        kind, *numbers = item.locator.split(":")
        if kind == "zip":
            return _read_zip(str(self._path()), int(numbers[0]))
        offset, size = map(int, numbers)
        plain = inflated(self._path(), self.options.store) if kind == "gz" else self._path()
        with plain.open("rb") as file:
            data = os.pread(file.fileno(), size, offset)
        if len(data) < size:
            raise OSError(f"the archive is cut off: {len(data):,} of {size:,} bytes")
        return data

    def _path(self) -> Path:
        return Path(self.file).expanduser().absolute()

    def _collect(self, path: Path, members: _Members) -> None:
        with path.open("rb") as file:
            head = file.read(len(GZIP_MAGIC))
            file.seek(0)
            if head.startswith(GZIP_MAGIC):
                with inflated(path, self.options.store).open("rb") as plain:
                    _collect_tar(plain, "gz", members)
            elif head.startswith(b"PK"):
                _collect_zip(path, members)
            else:
                _collect_tar(file, "tar", members)


@cached_until_changed(4)
def _zip(path: str) -> zipfile.ZipFile:
    """Return an open archive, which the threads of this process share."""
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise OSError(f"the zip is broken: {error}") from None


def _collect_zip(path: Path, members: _Members) -> None:
    """Collect the members that the central directory lists."""
    infos = _zip(str(path)).infolist()
    total = sum(info.file_size for info in infos)
    packed = path.stat().st_size
    if total > BOMB_BYTES and total > BOMB_RATIO * packed:
        raise OSError(f"it unpacks to more than {BOMB_RATIO} times its size: {total >> 20} MiB")
    names = _zip_names(path, infos)
    for number, (info, name) in enumerate(zip(infos, names, strict=True)):
        mode = stat.S_IFMT(info.external_attr >> 16)
        locator = f"zip:{number}"
        kind = "file" if mode in (0, stat.S_IFREG) else "special"
        if stat.S_ISLNK(mode):
            kind = "link"
        elif name.endswith(("/", "\\")):
            kind = "folder"
        if info.flag_bits & 0x41:  # bits 0 and 6: encrypted (APPNOTE 4.4.4)
            locator = f"{REFUSED}encrypted; unpack the archive with its password"
        elif info.compress_type not in _ZIP_METHODS:
            method = f"method {info.compress_type} of APPNOTE 4.4.5"
            locator = f"{REFUSED}packed by {method}; expected deflate or none. Pack it again"
        members.add(name, kind, info.file_size, locator)


def _zip_names(path: Path, infos: Sequence[zipfile.ZipInfo]) -> list[str]:
    """Return the names of members; those without the flag of UTF-8 are UTF-8, too, or refused.

    `zip` and macOS write UTF-8 without its flag (APPNOTE 4.4.4, bit 11), and `zipfile` reads names
    without this flag as code page 437.

    Raises:
        ConfigError: The names of folders, which may be classes, are not UTF-8.
    """
    # `filename` ends before the first NUL, which `safe_path` has to see.
    names = [info.orig_filename for info in infos]
    for number, info in enumerate(infos):
        if info.flag_bits & _UTF8_NAME or names[number].isascii():
            continue
        data = names[number].encode("cp437")
        folders = data.rpartition(b"/")[0]
        try:
            folders.decode()
        except UnicodeDecodeError:
            raise ConfigError(
                f"data source {str(path)!r}: the names of its folders are not UTF-8, such as "
                f"'{folders.decode('utf-8', 'backslashreplace')}'. Unpack it with the encoding in "
                "which it was written (unzip -O), and name the folder; or pack it again with UTF-8 "
                "names (7-Zip: 7z a -mcu=on x.zip FOLDER)"
            ) from None
        with contextlib.suppress(UnicodeDecodeError):  # a file's own name says nothing
            names[number] = data.decode()
    return names


def _read_zip(path: str, number: int) -> bytes:
    """Read a member by its number in the central directory; no more than it says is unpacked."""
    archive = _zip(path)
    info = archive.infolist()[number]
    try:
        with archive.open(info) as member:
            data = member.read(info.file_size + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        raise OSError(f"cannot be unpacked: {error}") from None
    if len(data) != info.file_size:
        raise OSError(f"the archive is cut off: {len(data):,} of {info.file_size:,} bytes")
    return data


def _collect_tar(stream: IO[bytes], kind: str, members: _Members) -> None:
    """Collect the members in the order of the file, skipping their contents."""
    try:
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            while (info := archive.next()) is not None:
                locator = f"{kind}:{info.offset_data}:{info.size}"
                if info.issparse():
                    locator = f"{REFUSED}a sparse member; unpack the archive and name the folder"
                members.add(info.name, _tar_kind(info), info.size, locator)
                cast("Any", archive).members = []  # `tarfile` keeps every member in this list
            _require_end(stream, archive.offset)
    except (tarfile.TarError, ValueError, EOFError, OverflowError, RecursionError) as error:
        seen = len(members.items)
        raise OSError(
            f"it is no archive, or cut off or broken after {seen} files ({error}); {_EXPECTED}"
        ) from None


def _tar_kind(info: tarfile.TarInfo) -> str:
    """Return what a member is; see `_Members.add`."""
    if info.issym() or info.islnk():
        return "link"
    if info.isreg():
        return "file"
    return "folder" if info.isdir() else "special"


def _require_end(stream: IO[bytes], offset: int) -> None:
    """Require zeros after the members, because `tarfile` stops at any other block.

    The last record is filled with zeros, 10 KiB in most archives.
    """
    stream.seek(offset)
    rest = stream.read(_PADDING)
    if len(rest) < tarfile.BLOCKSIZE or any(rest):
        raise tarfile.ReadError(
            "its end mark is missing, a header is damaged, or more data follows, as after "
            "`cat a.tar b.tar`. Unpack it with `tar --ignore-zeros -xf`, and name the folder"
        )


KINDS = (SourceKind("archive", ArchiveSource, takes, order=10),)
