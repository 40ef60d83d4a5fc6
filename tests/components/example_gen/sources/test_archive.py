"""Archives hold the items of the unpacked folder, and everything dangerous is refused by name."""

from __future__ import annotations

import concurrent.futures
import errno
import gzip
import hashlib
import io
import itertools
import os
import random
import tarfile
import zipfile

import numpy as np
import pytest

from imgpipe.components import source_check
from imgpipe.components.example_gen.ingestion import IngestSettings, ingest
from imgpipe.components.example_gen.sources import hashing, open_source, seekable_gzip
from imgpipe.components.example_gen.sources.archive import MEMBER_LIMIT
from imgpipe.components.example_gen.sources.items import in_reading_order
from imgpipe.components.example_gen.sources.seekable_gzip import SeekableGzip
from imgpipe.models.errors import ConfigError

FILES = {"cat/a.jpg": b"a" * 9, "cat/deep/b.jpg": b"b", "dog/c.jpg": b"", "dog/é ü.jpg": b"d" * 999}
KINDS = ("zip", "tar", "tar.gz")
_PIECE = 1 << 18  # bytes; a gzip file of many such pieces is not unpacked at once


@pytest.fixture
def pack(tmp_path):
    """Return a function that writes files {member: bytes} into an archive and returns its path."""

    def make(kind, files, name="photos"):
        path = tmp_path / f"{name}.{kind}"
        if kind == "zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for member, content in files.items():
                    archive.writestr(member, content)
            return path
        with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as archive:
            for member, content in files.items():
                info = tarfile.TarInfo(member)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        return path

    return make


def notes(scan):
    """Return kind and path of the notes of a scan, except those about non-ASCII names."""
    return {(note.kind, note.path) for note in scan.notes if note.kind != "non_ascii_name"}


def contents(path):
    """Return the bytes of all items of an archive by path."""
    source = open_source(str(path))
    return {item.path: source.read(item) for item in source.listing().items}


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_has_the_items_of_the_unpacked_folder(pack, tmp_path, kind):
    folder = tmp_path / "unpacked"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    packed = pack(kind, FILES)
    unpacked = open_source(str(folder)).scan()
    scan = open_source(str(packed)).scan()
    assert scan.fingerprint == unpacked.fingerprint and scan.vocabulary == ("cat", "dog")
    assert contents(packed) == FILES
    assert open_source(f"archive:{packed}").listing().counts() == {"cat": 2, "dog": 2}
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"photos.{kind}", "unpacked"]


@pytest.mark.parametrize("encoding", ["utf-8", "cp437"])
def test_names_in_a_zip_need_no_flag_for_utf8(tmp_path, encoding):
    """Info-ZIP and macOS write UTF-8 without the flag, older Windows programs a code page."""

    class Unflagged(zipfile.ZipInfo):
        def _encodeFilenameFlags(self):
            return self.filename.encode(encoding), 0

    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("Bär/ä.jpg", "Hündchen/b.jpg"):
            archive.writestr(Unflagged(name), b"x")
    scan = open_source(str(path)).listing()
    assert scan.vocabulary == ("Bär", "Hündchen")
    assert [item.path for item in scan.items] == ["Bär/ä.jpg", "Hündchen/b.jpg"]


@pytest.mark.parametrize("kind", KINDS)
def test_split_folders_wrapping_folders_and_hidden_or_loose_members_are_recognised(pack, kind):
    names = [f"set/{s}/{c}/1.jpg" for s in ("Train", "val") for c in "ab"]
    more = ["set/readme.txt", "__MACOSX/set/train/a/1.jpg", "set/train/.DS_Store", "licence"]
    scan = open_source(str(pack(kind, dict.fromkeys(names + more, b"x")))).listing()
    assert scan.given_splits == ("train", "validation")
    assert [(i.path, i.label, i.split) for i in scan.items] == [
        ("licence", None, None),
        ("set/Train/a/1.jpg", "a", "train"),
        ("set/Train/b/1.jpg", "b", "train"),
        ("set/readme.txt", None, None),
        ("set/val/a/1.jpg", "a", "validation"),
        ("set/val/b/1.jpg", "b", "validation"),
    ]
    assert notes(scan) == {("hidden", "__MACOSX"), ("hidden", "set/train/.DS_Store")}


@pytest.mark.parametrize("kind", KINDS)
def test_member_paths_that_lead_out_of_the_archive_are_refused_by_name(pack, kind, tmp_path):
    bad = ["../out.jpg", "cat/../../out.jpg", "/etc/out.jpg", "C:\\out.jpg", "cat\\..\\..\\o.jpg"]
    path = pack(kind, {**FILES, **dict.fromkeys(bad, b"x"), "./dog//e.jpg": b"e"})
    scan = open_source(str(path)).listing()
    assert {item.path for item in scan.items} == {*FILES, "dog/e.jpg"}
    assert notes(scan) == {("unsafe_name", name) for name in bad}


def test_links_and_devices_of_a_tar_are_refused_by_name(tmp_path, pack):
    path = pack("tar", FILES)
    with tarfile.open(path, "a") as archive:
        for name, kind in {
            "cat/soft": tarfile.SYMTYPE,
            "cat/hard": tarfile.LNKTYPE,
            "cat/char": tarfile.CHRTYPE,
            "cat/block": tarfile.BLKTYPE,
            "cat/pipe": tarfile.FIFOTYPE,
        }.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    scan = open_source(str(path)).listing()
    assert {item.path for item in scan.items} == set(FILES)
    assert notes(scan) == {
        *(("link", f"cat/{name}") for name in ("soft", "hard")),
        *(("special_file", f"cat/{name}") for name in ("char", "block", "pipe")),
    }


def test_links_and_devices_of_a_zip_are_refused_by_name(tmp_path, pack):
    path = pack("zip", FILES)
    with zipfile.ZipFile(path, "a") as archive:
        for name, mode in {"cat/soft": 0o120777, "cat/pipe": 0o010644}.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, "/etc/passwd")
    assert notes(open_source(str(path)).listing()) == {
        ("link", "cat/soft"),
        ("special_file", "cat/pipe"),
    }


def unreadable(path):
    """Return why items cannot be read: {path: detail}."""
    scan = open_source(str(path)).scan()
    return {note.path: note.detail for note in scan.notes if note.kind == "unreadable_file"}


def test_encrypted_members_are_items_that_cannot_be_read(pack):
    path = pack("zip", FILES)
    data = bytearray(path.read_bytes())
    place = data.index(
        b"PK\1\2"
    )  # an entry of the central directory, which has its flags at byte 8
    data[place + 8] |= 1
    path.write_bytes(data)
    assert list(unreadable(path)) == ["cat/a.jpg"]
    assert "encrypted; unpack" in unreadable(path)["cat/a.jpg"]


def test_a_damaged_member_is_unreadable_and_the_others_are_not(pack):
    path = pack("zip", {"cat/a.jpg": os.urandom(500), "dog/b.jpg": b"fine"})
    data = bytearray(path.read_bytes())
    data[100] ^= 255
    path.write_bytes(data)
    assert set(unreadable(path)) == {"cat/a.jpg"}
    assert contents_of(path, "dog/b.jpg") == b"fine"


def contents_of(path, name):
    """Return the bytes of one item."""
    source = open_source(str(path))
    return source.read(next(i for i in source.listing().items if i.path == name))


def test_a_member_over_the_limit_is_not_unpacked(pack, tmp_path):
    path = pack("zip", FILES)
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("cat/big.jpg", "w") as member,
    ):
        for _ in range((MEMBER_LIMIT >> 20) + 1):
            member.write(bytes(1 << 20))
    assert "larger than 256 MiB" in unreadable(path)["cat/big.jpg"]


def test_members_that_share_data_are_refused(tmp_path):
    """A ZIP bomb without nesting has many directory entries for one piece of data."""
    path = tmp_path / "overlap.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cat/a.jpg", bytes(1 << 20))
        archive.writestr("dog/b.jpg", b"fine")
        copy = zipfile.ZipInfo("cat/z.jpg")
        real = archive.getinfo("cat/a.jpg")
        for name in ("header_offset", "compress_size", "file_size", "CRC", "compress_type"):
            setattr(copy, name, getattr(real, name))
        archive.filelist.append(copy)
        archive.NameToInfo[copy.filename] = copy
    assert {name: why.split(" of")[0] for name, why in unreadable(path).items()} == {
        "cat/z.jpg": "lies over the data"
    }


def test_archives_that_unpack_to_more_than_200_times_their_size_are_refused(tmp_path):
    lying = tmp_path / "bomb.zip"
    with zipfile.ZipFile(lying, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cat/a.jpg", b"x")
        for number in range(20):
            archive.writestr(f"dog/{number}.jpg", b"x")
            archive.filelist[-1].file_size = 200 << 20
    with pytest.raises(ConfigError, match="unpacks to more than 200 times its size: 4000 MiB"):
        open_source(str(lying)).listing()
    bomb = tmp_path / "bomb.tar.gz"
    info = tarfile.TarInfo("cat/a.jpg")
    info.size = 3 << 30
    with gzip.open(bomb, "wb", compresslevel=1) as file:
        file.write(info.tobuf())
    zeros = gzip.compress(bytes(64 << 20))
    with bomb.open("ab") as file:
        for _ in range(48):
            file.write(zeros)
    with pytest.raises(ConfigError, match="unpacks to more than 200 times its size: 1024 MiB"):
        open_source(str(bomb)).listing()


def test_a_tar_with_an_endless_name_is_refused(tmp_path):
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    path = tmp_path / "name.tar"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(ConfigError, match="header of 8,589,93"):
        open_source(str(path)).listing()


@pytest.mark.parametrize("kind", KINDS)
def test_cut_off_archives_are_refused(pack, kind):
    path = pack(kind, {"cat/a.jpg": os.urandom(40_000), "dog/b.jpg": os.urandom(40_000)})
    path.write_bytes(path.read_bytes()[:60_000])
    with pytest.raises(ConfigError, match="cut off"):
        open_source(str(path)).listing()


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
@pytest.mark.parametrize("fault", ["cut", "header", "second"])
def test_a_tar_never_ends_early_without_a_word(pack, tmp_path, kind, fault):
    """`tarfile` takes any block that is no header for the end of the archive."""
    path = pack(
        "tar", {f"{label}/{n}.jpg": b"x" * 600 for label in ("cat", "dog") for n in range(5)}
    )
    content = bytearray(path.read_bytes())
    member = 512 + 1024
    if fault == "cut":
        del content[6 * member :]
    elif fault == "header":
        content[6 * member] ^= 1
    else:
        content += path.read_bytes()
    damaged = tmp_path / f"damaged.{kind}"
    damaged.write_bytes(gzip.compress(content) if kind == "tar.gz" else content)
    word = {"cut": "no end mark", "header": "a header is damaged", "second": "ignore-zeros"}[fault]
    with pytest.raises(ConfigError, match=word):
        open_source(str(damaged)).listing()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.zip", b"no zip at all", "is not an archive that can be read"),
        ("a.tar.xz", b"\xfd7zXZ\x00", "compressed with xz, which cannot be read in place"),
        ("a.tar.bz2", b"BZh91AY", "compressed with bzip2"),
        ("a.tgz", gzip.compress(b"no tar" * 500, mtime=0), "cut off or broken"),
        ("a.tar", bytes(10240), "found no file in it"),
        (
            "a.7z",
            b"7z\xbc\xaf'\x1c",
            "not an archive that can be read; expected a .zip, .tar, .tar.gz or .tgz",
        ),
        ("gone.zip", None, "does not exist"),
    ],
)
def test_files_that_are_no_archive_are_refused_with_the_cause(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        open_source(str(tmp_path / name)).listing()


def test_one_class_or_none_is_refused(pack):
    with pytest.raises(ConfigError, match=r"one class only \(cat\) in 1 images"):
        open_source(str(pack("zip", {"cat/a.jpg": b"x"}))).listing()
    with pytest.raises(ConfigError, match="no class in 1 images"):
        open_source(str(pack("tar", {"a.jpg": b"x"}))).listing()


def test_an_archive_of_refused_members_alone_says_why(pack):
    path = pack("tar", {"/home/me/a/1.jpg": b"x", "/home/me/b/2.jpg": b"y"})
    expected = "all 2 members were refused, the first of them '/home/me/a/1.jpg' .an absolute path."
    with pytest.raises(ConfigError, match=expected):
        open_source(str(path)).listing()


def test_a_volume_number_in_the_record_of_zip64_is_no_other_volume(pack):
    path = pack("zip", FILES)
    data = bytearray(path.read_bytes())
    at = data.find(b"PK\1\2") + 34
    data[at : at + 2] = b"\xff\xff"
    path.write_bytes(data)
    assert contents(path) == FILES


@pytest.mark.parametrize("number_in", ["end record", "directory"])
def test_one_volume_of_a_split_zip_is_refused_with_the_way_to_join_them(pack, number_in):
    path = pack("zip", FILES)
    data = bytearray(path.read_bytes())
    # The number of the volume in the end record, and in the first entry of the directory.
    at = data.rfind(b"PK\5\6") + 4 if number_in == "end record" else data.find(b"PK\1\2") + 34
    data[at] = 1
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="is one volume of several; join them with `zip -s 0 pho"):
        open_source(str(path)).listing()


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_of_several_members_with_one_name_is_used(pack, kind, tmp_path):
    path = pack("tar" if kind == "tar.gz" else kind, FILES)
    if kind == "zip":
        with (
            zipfile.ZipFile(path, "a") as archive,
            pytest.warns(UserWarning, match="Duplicate name"),
        ):
            archive.writestr("cat/a.jpg", b"new")
    else:
        info = tarfile.TarInfo("cat/a.jpg")
        info.size = 3
        with tarfile.open(path, "a") as archive:
            archive.addfile(info, io.BytesIO(b"new"))
    if kind == "tar.gz":
        path.with_suffix(".tar.gz").write_bytes(gzip.compress(path.read_bytes()))
        path = path.with_suffix(".tar.gz")
    assert contents(path)["cat/a.jpg"] == b"new"
    assert notes(open_source(str(path)).listing()) == {("repeated_name", "cat/a.jpg")}


def test_empty_class_folders_are_noted(pack, tmp_path):
    path = pack("zip", {**FILES, "bird/": b""})
    scan = open_source(str(path)).listing()
    assert scan.counts()["bird"] == 0 and ("empty_class", "bird") in notes(scan)


def test_a_gzip_file_is_read_at_any_place_by_several_threads(tmp_path):
    content = random.Random(0).randbytes(6 * _PIECE) + bytes(20 * _PIECE)
    content += random.Random(1).randbytes(5 * _PIECE + 77)
    path = tmp_path / "x.gz"
    halves = content[: 9 * _PIECE + 5], content[9 * _PIECE + 5 :]
    path.write_bytes(b"".join(map(gzip.compress, halves)) + bytes(64))  # two members, padding
    stream = SeekableGzip(str(path))
    draw = random.Random(2)
    ranges = [(draw.randrange(len(content)), draw.randrange(3 * _PIECE)) for _ in range(150)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for (start, size), data in zip(
            ranges, pool.map(lambda r: stream.pread(r[1], r[0]), ranges), strict=True
        ):
            assert (
                hashlib.sha256(data).digest()
                == hashlib.sha256(content[start : start + size]).digest()
            )
    assert stream.pread(10, len(content)) == b""


@pytest.mark.parametrize("failing", [1, 3, 7])
def test_a_read_error_does_not_shift_what_is_read_after_it(tmp_path, monkeypatch, failing):
    content = random.Random(0).randbytes(12 * _PIECE)
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(content))
    stream, pread, calls = SeekableGzip(str(path)), os.pread, itertools.count(1)

    def fail_once(*arguments):
        if next(calls) == failing:
            raise OSError(errno.EIO, "Input/output error")
        return pread(*arguments)

    monkeypatch.setattr(os, "pread", fail_once)
    with pytest.raises(OSError, match="Input/output"):
        stream.pread(len(content), 0)
    assert stream.pread(len(content), 0) == content


def test_the_number_of_saved_states_of_a_long_gzip_file_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(seekable_gzip, "MAX_STATES", 4)
    content = np.arange(100 * _PIECE // 4, dtype="<u4").tobytes()
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(content, 1))
    stream = SeekableGzip(str(path))
    for start in (len(content) - 9, 5, len(content) // 2, 17 * _PIECE):
        assert stream.pread(9, start) == content[start : start + 9]
    assert stream.states <= 4


@pytest.fixture
def unpacked(monkeypatch):
    """Return a list that grows by the number of each block that is unpacked, few of which stay."""
    monkeypatch.setattr(seekable_gzip, "_BLOCKS_KEPT", 16)
    blocks, unpack = [], SeekableGzip._next_block

    def counted(stream, state):
        blocks.append(state.block)
        return unpack(stream, state)

    monkeypatch.setattr(SeekableGzip, "_next_block", counted)
    # Several threads may read a block of before again.
    monkeypatch.setattr(hashing, "_HASH_THREADS", 1)
    monkeypatch.setattr(source_check, "_THREADS", 1)
    return blocks


def _in_any_order():
    """Return files {member: bytes} in an order that is not that of their names."""
    draw = random.Random(0)
    numbers = draw.sample(range(100), 100)
    return {f"{'ab'[n % 2]}/{n:03d}.jpg": draw.randbytes(_PIECE * 3 // 4) for n in numbers}


def test_a_compressed_tar_in_any_order_is_unpacked_twice_to_be_checked(pack, unpacked):
    judged = source_check.judge(source_check.Plan(str(pack("tar.gz", _in_any_order()))))
    assert len(judged.rejects) == 100 and len(unpacked) <= 2 * (max(unpacked) + 1)


def test_a_compressed_tar_in_any_order_is_unpacked_twice_to_be_ingested(
    pack, unpacked, tmp_path, beam_pipeline
):
    settings = IngestSettings(str(pack("tar.gz", _in_any_order())), ("a", "b"), shard_size=20)
    assert ingest(beam_pipeline(), str(tmp_path / "in"), settings)["images"] == 100
    assert len(unpacked) <= 2 * (max(unpacked) + 1)


def test_a_compressed_tar_in_any_order_is_unpacked_twice_to_be_listed_and_hashed(pack, unpacked):
    files = _in_any_order()
    source = open_source(str(pack("tar.gz", files)))
    scan = source.scan()
    assert len(unpacked) <= 2 * (max(unpacked) + 1)
    hashes = {path: hashlib.sha256(data).hexdigest() for path, data in sorted(files.items())}
    assert {item.path: item.sha256 for item in scan.items} == hashes
    assert [item.path for item in scan.items] == sorted(files)
    assert [item.path for item in in_reading_order(scan.items)] == list(files)


def test_a_tar_that_ends_with_a_zip_is_read_as_a_tar(pack):
    inner = pack("zip", {"old/x/1.jpg": b"x", "old/y/2.jpg": b"y"}, name="inner").read_bytes()
    assert contents(pack("tar", {**FILES, "dog/z.jpg": inner})) == {**FILES, "dog/z.jpg": inner}
