"""A .zip, .tar or .tar.gz archive as a source, which is read without unpacking it to disk.

Dangerous members are refused, each with its name: paths that lead out of the archive, links,
devices, encrypted members, overlapping members, and data that expands more than images do. The
paths of the members determine labels and splits, as in a folder tree.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from imgpipe.components.example_gen.sources.base import Item, Kind, Note, Scan, SourceOptions
from imgpipe.components.example_gen.sources.hashing import HashedSource
from imgpipe.components.example_gen.sources.items import REFUSED
from imgpipe.components.example_gen.sources.limited_reader import LimitedReader, UnpackedReader
from imgpipe.components.example_gen.sources.local_files import BYTE_LIMIT
from imgpipe.components.example_gen.sources.seekable_gzip import (
    BOMB_BYTES,
    BOMB_RATIO,
    Bomb,
    Damaged,
    shared,
)
from imgpipe.components.example_gen.sources.tree import lay_out, repeated
from imgpipe.models.errors import ConfigError

#: Suffixes of archives. Those of the second line are not supported, which the error states.
SUFFIXES = (
    *(".zip", ".tar", ".tar.gz", ".tgz"),
    *(".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".7z", ".rar"),
)
#: Largest size in bytes of an unpacked member; several are in memory at a time.
MEMBER_LIMIT = BYTE_LIMIT
_PADDING = 1 << 20  # bytes after the end mark of a tar that are examined
_TABLE_LIMIT = BYTE_LIMIT  # bytes of a zip's table of contents, enough for two million members
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # PKWARE APPNOTE 4.3.7: signature, lengths of two names
_END_LIMIT = 22 + 0xFFFF  # bytes of a zip's end record and its comment (PKWARE APPNOTE 4.3.16)
_IN_ZIP64 = 0xFFFF  # stands for a number that is in the end record of ZIP64
#: Compression methods of zip members that are read, whose decoders limit the size of the output.
#: The decoders of LZMA and bzip2 always unpack a whole block, however large it is.
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_RAW_DEFLATE = -15  # zlib's wbits
_UTF8_NAME = 0x800  # flag of a zip member whose name is marked as UTF-8
_OTHER_COMPRESSION = {b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_HEAD = 8  # bytes by which an archive is recognised
_EXPECTED = "expected a .zip, .tar, .tar.gz or .tgz of a folder tree"


def takes(locator: str, options: SourceOptions) -> bool:
    """Whether a plain path names an archive."""
    return locator.lower().endswith(SUFFIXES) and not Path(locator).expanduser().is_dir()


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
        elif size > MEMBER_LIMIT and not locator.startswith(REFUSED):
            limit = f"larger than {MEMBER_LIMIT >> 20} MiB when unpacked ({size:,} bytes)"
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


@dataclass(frozen=True)
class ArchiveSource(HashedSource):
    """One archive on a local or mounted file system."""

    file: str
    options: SourceOptions

    def listing(self) -> Scan:
        """Read the table of contents; see `Source.listing`.

        Raises:
            ConfigError: The archive cannot be read, is damaged, or holds no file.
        """
        path = Path(self.file).expanduser()
        if path.is_dir():
            raise ConfigError(f"data source {self.file!r} is a folder; {_EXPECTED}")
        if not path.is_file():
            raise ConfigError(f"data source {self.file!r} does not exist; {_EXPECTED}")
        found = _Members()
        try:
            self._collect(path, found)
        except (Bomb, Damaged) as error:
            raise ConfigError(
                f"data source {self.file!r}: {error}. If the images are your own, download the "
                "archive again, or unpack it and name the folder."
            ) from None
        except OSError as error:
            raise ConfigError(
                f"data source {self.file!r} cannot be read: {error.strerror or error}"
            ) from None
        members = repeated(found.items, found.notes)
        if not members and not found.folders and found.notes:
            first = found.notes[0]
            raise ConfigError(
                f"data source {self.file!r}: all {len(found.notes)} members were refused, the "
                f"first of them {first.path!r} ({first.detail}); repack the "
                "images with relative names"
            )
        if not members and not found.folders:
            raise ConfigError(f"data source {self.file!r}: found no file in it; {_EXPECTED}")
        return lay_out(self.file, members, found.folders, found.notes, self.options.least_classes)

    def read(self, item: Item) -> bytes:
        """Read one member; see `Source.read`.

        Raises:
            OSError: The member is damaged, or the archive ends before it.
        """
        if item.locator.startswith(REFUSED):
            raise OSError(item.locator[1:])
        kind, *numbers = item.locator.split(":")
        path = str(Path(self.file).expanduser())
        if kind == "zip":
            return _read_zip(path, [int(number) for number in numbers])
        offset, size = int(numbers[0]), int(numbers[1])
        if kind == "gz":
            data = shared(path).pread(size, offset)
        else:
            with Path(path).open("rb") as file:
                data = os.pread(file.fileno(), size, offset)
        if len(data) < size:
            raise OSError(f"the archive is cut off: {len(data):,} of {size:,} bytes")
        return data

    def _collect(self, path: Path, found: _Members) -> None:
        with path.open("rb") as file:
            head = file.read(_HEAD)
            # A zip is recognised by its end, which may also be that of a zip inside a tar, and an
            # empty tar by its zeros, with which a zip may begin.
            if head.startswith(b"\x1f\x8b"):
                _collect_tar(cast("IO[bytes]", UnpackedReader(shared(str(path)))), "gz", found)
            elif _is_tar(file):
                _collect_tar(cast("IO[bytes]", LimitedReader(file)), "tar", found)
            elif zipfile.is_zipfile(file):
                _collect_zip(path, found)
            elif not any(head) and len(head) == _HEAD:
                file.seek(0)
                _collect_tar(cast("IO[bytes]", LimitedReader(file)), "tar", found)
            else:
                raise ConfigError(f"data source {self.file!r} {_other_format(head)}; {_EXPECTED}")


def _is_tar(file: IO[bytes]) -> bool:
    """Whether the file begins with a tar header. Seeks to its start."""
    file.seek(0)
    block = file.read(tarfile.BLOCKSIZE)
    file.seek(0)
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _other_format(head: bytes) -> str:
    """Say what a file is that is neither a zip nor a tar, from its first bytes."""
    for magic, name in _OTHER_COMPRESSION.items():
        if head.startswith(magic):
            return f"is compressed with {name}, which cannot be read in place"
    cut = " or is cut off" if head.startswith(b"PK") else ""
    return f"is not an archive that can be read{cut}"


def _collect_zip(path: Path, found: _Members) -> None:
    """Collect the members that the central directory lists."""
    try:
        with path.open("rb") as file:
            volumes = _volume(file)
            careful = cast("IO[bytes]", LimitedReader(file, _TABLE_LIMIT))
            with zipfile.ZipFile(careful) as archive:
                infos = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        if not volumes:
            raise Damaged(f"the zip is broken: {error}") from None
        infos = []
    if volumes or any(info.volume not in (0, _IN_ZIP64) for info in infos):
        raise ConfigError(
            f"data source {str(path)!r} is one volume of several; join them with "
            f"`zip -s 0 {path.name} --out whole.zip`, or unpack them and name the folder"
        )
    total, packed = sum(info.file_size for info in infos), path.stat().st_size
    if total > BOMB_BYTES and total > BOMB_RATIO * packed:
        raise Bomb(f"unpacks to more than {BOMB_RATIO} times its size: {total >> 20} MiB")
    # Members that share their data can unpack to any multiple of it, beyond deflate's ratio of 1032
    # (Fifield 2019, https://www.bamsoftware.com/hacks/zipbomb/).
    end, before = 0, ""
    for info in sorted(infos, key=lambda info: info.header_offset):
        name = _zip_name(info)
        overlaps = before if info.header_offset < end else ""
        reach = info.header_offset + _LOCAL_HEADER.size + info.compress_size
        if reach > end:
            end, before = reach, name
        found.add(name, _zip_kind(info), info.file_size, _zip_locator(info, overlaps))


def _volume(file: IO[bytes]) -> int:
    """Return the number of the volume that a zip ends in: 0 unless it was split."""
    file.seek(max(file.seek(0, os.SEEK_END) - _END_LIMIT, 0))
    tail = file.read()
    number = int.from_bytes(tail[tail.rfind(b"PK\5\6") :][4:6], "little")
    return 0 if number == _IN_ZIP64 else number


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Name of a member, as UTF-8 wherever it is valid UTF-8.

    `zip` and macOS write UTF-8 without its flag (APPNOTE 4.4.4, bit 11), and `zipfile` reads names
    without this flag as code page 437. Names in a code page are hardly ever valid UTF-8.
    """
    name = info.orig_filename  # `filename` ends before the first NUL, which `safe_path` has to see
    if info.flag_bits & _UTF8_NAME:
        return name
    try:
        return name.encode("cp437").decode()
    except UnicodeDecodeError:
        return name


def _zip_kind(info: zipfile.ZipInfo) -> str:
    mode = stat.S_IFMT(info.external_attr >> 16)
    if stat.S_ISLNK(mode):
        return "link"
    if info.filename.endswith(("/", "\\")):
        return "folder"
    return "file" if mode in (0, stat.S_IFREG) else "special"


def _zip_locator(info: zipfile.ZipInfo, overlaps: str) -> str:
    if info.flag_bits & 0x41:  # bits 0 and 6: encrypted (APPNOTE 4.4.4)
        return f"{REFUSED}encrypted; unpack the archive with its password and name the folder"
    if overlaps:
        return f"{REFUSED}lies over the data of {overlaps!r}, as in an archive bomb"
    if info.compress_type not in _ZIP_METHODS:
        name = cast("Any", zipfile).compressor_names.get(
            info.compress_type, f"method {info.compress_type}"
        )
        return f"{REFUSED}packed by {name}; expected deflate or none. Pack the archive again"
    numbers = info.header_offset, info.compress_size, info.file_size, info.compress_type, info.CRC
    return ":".join(["zip", *map(str, numbers)])


def _read_zip(path: str, numbers: list[int]) -> bytes:
    """Read one member by its numbers, without reading the central directory in every worker."""
    offset, packed, size, method, crc = numbers
    with Path(path).open("rb") as file:
        head = os.pread(file.fileno(), _LOCAL_HEADER.size, offset)
        if len(head) < _LOCAL_HEADER.size or not head.startswith(b"PK\3\4"):
            raise OSError("the zip has no member at the offset in its directory")
        # The extra field here may be longer than the one in the central directory.
        _, names, extra = _LOCAL_HEADER.unpack(head)
        # Deflate adds some bytes to data that it cannot compress, but never many more.
        most = min(packed, size + size // 64 + (1 << 16))
        data = os.pread(file.fileno(), most, offset + _LOCAL_HEADER.size + names + extra)
    if method == zipfile.ZIP_DEFLATED:
        try:
            # One byte more than the stated size is enough to find a member that is larger.
            data = zlib.decompressobj(_RAW_DEFLATE).decompress(data, size + 1)
        except zlib.error as error:
            raise OSError(f"cannot be unpacked: {error}") from None
    if len(data) > size:
        raise OSError(f"unpacks to more than the {size:,} bytes that the archive says")
    if len(data) < size:
        raise OSError(f"the archive is cut off: {len(data):,} of {size:,} bytes")
    if zlib.crc32(data) != crc:  # raw deflate data has no checksum of its own
        raise OSError("cannot be unpacked: its checksum is wrong")
    return data


def _collect_tar(stream: IO[bytes], kind: str, found: _Members) -> None:
    """Collect the members in the order of the file, skipping their contents."""
    try:
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            for info in _members(archive):
                locator = f"{kind}:{info.offset_data}:{info.size}"
                if info.issparse():
                    locator = f"{REFUSED}a sparse member; unpack the archive and name the folder"
                found.add(info.name, _tar_kind(info), info.size, locator)
            _require_end(stream, archive.offset)
    except (Bomb, Damaged):
        raise
    except (tarfile.TarError, ValueError, EOFError, OverflowError, RecursionError) as error:
        seen = len(found.items)
        raise Damaged(f"the tar is cut off or broken after {seen} files: {error}") from None


def _require_end(stream: IO[bytes], offset: int) -> None:
    """Check that the members end with blocks of zeros, because `tarfile` stops at any other block.

    Raises:
        ReadError: The archive is cut off, a header is damaged, or another archive follows.
    """
    stream.seek(offset)
    block = stream.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it has no end mark. Pack it again")
    if any(block):
        raise tarfile.ReadError("a header is damaged. Pack it again")
    # Some programs fill the last record with zeros, 10 KiB in most of them.
    if any(stream.read(_PADDING)):
        raise tarfile.ReadError(
            "more data follows its end mark, as after `cat a.tar b.tar`. Unpack it with "
            "`tar --ignore-zeros -xf`, and pack it again or name the folder"
        )


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Iterate over all members without keeping them in memory."""
    while (info := archive.next()) is not None:
        yield info
        cast("Any", archive).members = []  # `tarfile` appends every member to this list


def _tar_kind(info: tarfile.TarInfo) -> str:
    if info.isdir():
        return "folder"
    if info.issym() or info.islnk():
        return "link"
    return "file" if info.isreg() else "special"


KINDS = (Kind("archive", ArchiveSource, takes, order=10),)
