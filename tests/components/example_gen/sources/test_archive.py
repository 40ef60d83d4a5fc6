"""Archives hold the items of the unpacked folder, and everything dangerous is refused by name."""

import gzip
import io
import os
import shutil
import tarfile
import zipfile

import pytest

from imgpipe.components.example_gen.sources import archive, read_source
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.files.atomic_write import TEMPORARY
from tests.components.example_gen.sources.trees import noted

FILES = {"cat/a.jpg": b"a" * 9, "cat/deep/b.jpg": b"b", "dog/c.jpg": b"", "dog/é ü.jpg": b"d" * 999}
KINDS = ("zip", "tar", "tar.gz")
FILTER = {"filter": "data"}


@pytest.fixture
def pack(tmp_path):
    def make(kind, files):
        path = tmp_path / f"photos.{kind}"
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


def contents(path, store=""):
    images = read_source(str(path), store=store)
    return {item.path: images.reader.read(item) for item in images.items}


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_has_the_items_of_the_unpacked_folder(pack, tmp_path, kind):
    packed = pack(kind, FILES)
    shutil.unpack_archive(packed, tmp_path / "unpacked", **({} if kind == "zip" else FILTER))
    scan = read_source(str(packed)).hashed()
    assert scan.fingerprint == read_source(str(tmp_path / "unpacked")).hashed().fingerprint
    assert contents(packed) == FILES
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"photos.{kind}", "unpacked"]


@pytest.mark.parametrize("kind", KINDS)
def test_member_paths_that_lead_out_of_the_archive_are_refused_by_name(pack, kind, tmp_path):
    bad = ["../out.jpg", "cat/../../out.jpg", "/etc/out.jpg", "C:\\out.jpg", "cat\\..\\..\\o.jpg"]
    path = pack(kind, {**FILES, **dict.fromkeys(bad, b"x"), "./dog//e.jpg": b"e"})
    scan = read_source(str(path))
    assert {item.path for item in scan.items} == {*FILES, "dog/e.jpg"}
    assert {*noted(scan)} == {("unsafe_name", name) for name in bad}


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
    scan = read_source(str(path))
    assert {item.path for item in scan.items} == set(FILES)
    left_out = ("soft", "hard", "char", "block", "pipe")
    assert {*noted(scan)} == {("special_file", f"cat/{name}") for name in left_out}


def encrypted(data):
    """Say in the central directory of a zip that its first member is encrypted."""
    return flipped(data, data.index(b"PK\1\2") + 8)


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGES = [
    ("zip", lambda data: flipped(data, 100), r"'cat/0\.jpg' cannot be .*download the arch"),
    ("zip", encrypted, r"'cat/0\.jpg' cannot be unpacked .*encrypted"),
    ("zip", lambda data: data[:5000], "the zip is broken.* several parts, join them first"),
    ("zip", lambda data: b"no zip", r"it is no archive, .*; expected an archive \(\.zip"),
    ("zip", lambda data: b"PK no zip at all", "the zip is broken"),
    ("tar", lambda data: data[:9000], r"cut off|end of data"),
    ("tar", lambda data: bytes(10240), "found no file"),
    ("tar.gz", lambda data: data[:5000], "cut off or broken"),
    ("tar.gz", lambda data: gzip.compress(b"no tar" * 500), "cut off or broken"),
    # `tarfile` takes any block that is no header for the end of the archive.
    *(
        (kind, spoil, r"end mark is missing.*ignore-zeros")
        for kind in ("tar", "in gzip")
        for spoil in (
            lambda data: data[: 6 * 1536],
            lambda data: flipped(data, 6 * 1536),
            lambda data: data + data,
        )
    ),
]


@pytest.mark.parametrize(("kind", "spoil", "message"), DAMAGES)
def test_a_damaged_archive_is_refused_with_the_cause(pack, kind, spoil, message):
    """The files are 600 bytes long, so that each begins at a multiple of 1,536 in a tar."""
    files = {f"{label}/{n}.jpg": os.urandom(600) for label in ("cat", "dog") for n in range(5)}
    path = pack("tar" if kind == "in gzip" else kind, files)
    damaged = spoil(path.read_bytes())
    path.write_bytes(gzip.compress(damaged) if kind == "in gzip" else damaged)
    with pytest.raises(ConfigError, match=message):
        read_source(str(path))


def test_an_archive_that_is_not_there_or_has_no_safe_member_is_refused(pack, tmp_path):
    said = r"found no file in it, but '\.\./out\.jpg' \(leads out of the source\)"
    with pytest.raises(ConfigError, match=said):
        read_source(str(pack("zip", {"../out.jpg": b"x"})))
    with pytest.raises(ConfigError, match="does not exist"):
        read_source(str(tmp_path / "gone.zip"))


@pytest.mark.slow
def test_archives_that_unpack_to_more_than_200_times_their_size_are_refused(tmp_path):
    lying = tmp_path / "bomb.zip"
    with zipfile.ZipFile(lying, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cat/a.jpg", b"x")
        for number in range(20):
            archive.writestr(f"dog/{number}.jpg", b"x")
            archive.filelist[-1].file_size = 200 << 20
    with pytest.raises(ConfigError, match="unpacks to more than 200 times its size: 4000 MiB"):
        read_source(str(lying))
    bomb = tmp_path / "bomb.tar.gz"
    info = tarfile.TarInfo("cat/a.jpg")
    info.size = 3 << 30
    with gzip.open(bomb, "wb", compresslevel=1) as file:
        file.write(info.tobuf())
    zeros = gzip.compress(bytes(64 << 20))
    with bomb.open("ab") as file:
        for _ in range(48):
            file.write(zeros)
    with pytest.raises(ConfigError, match="unpacks to more than 200 times its size: 1025 MiB"):
        read_source(str(bomb))


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_is_unpacked_once_into_the_store(pack, tmp_path, kind):
    spec, store = str(pack(kind, FILES)), tmp_path / "store"
    assert contents(spec, store=str(store)) == FILES
    (unpacked,) = (store / "unpacked").iterdir()
    before = unpacked.stat()
    assert contents(spec, store=str(store)) == FILES
    assert unpacked.stat() == before
    pack(kind, {**FILES, "dog/new.jpg": b"new"})
    assert len(contents(spec, store=str(store))) == 5
    (newer,) = (store / "unpacked").iterdir()
    assert newer != unpacked


@pytest.mark.parametrize("kind", ["tar.bz2", "tar.xz", "tar.zst", "7z", "rar"])
def test_archives_that_are_not_read_are_named(pack, tmp_path, kind):
    (tmp_path / f"pets.{kind}").write_bytes(bytes(300))
    with pytest.raises(
        ConfigError, match=r"a file that is not read \(.*\); expected .* or an archive"
    ):
        read_source(str(tmp_path / f"pets.{kind}"))
    outer = pack("zip", {f"x/pets.{kind}": b"", "owls.zip": b"PK\x03\x04"})
    with pytest.raises(ConfigError, match=r"found no image, but 2 files \("):
        read_source(str(outer))


class _Unmarked(zipfile.ZipInfo):
    """A member whose name is written in a code page, without the flag of UTF-8."""

    def _encodeFilenameFlags(self):
        return self.comment, 0


def pack_in(page, path, folders):
    with zipfile.ZipFile(path, "w") as archive:
        for number, folder in enumerate(folders):
            info = _Unmarked(str(number))
            info.comment = f"{folder}/{number}.jpg".encode(page)
            archive.writestr(info, b"x")
    return str(path)


def test_names_in_utf_8_without_its_mark_are_read(tmp_path):
    folders = ["\u732b", "Stra\u00dfe"]
    scan = read_source(pack_in("utf-8", tmp_path / "x.zip", folders))
    assert set(scan.classes) == set(folders) and not scan.findings


@pytest.mark.parametrize("page", ["cp437", "gbk", "tar"])
def test_classes_whose_names_are_not_utf_8_are_refused(pack, tmp_path, page):
    if page == "tar":
        path = pack("tar", {**FILES, "\udce9/1.jpg": b"x"})
    else:
        folders = {"cp437": ["\u00c4", "\u00d6"], "gbk": ["\u96cf", "\u73ab"]}
        path = pack_in(page, tmp_path / "x.zip", folders[page])
    with pytest.raises(ConfigError, match=r"class name .* is not UTF-8.*unzip -O"):
        read_source(str(path))


def test_names_of_files_that_are_not_utf_8_are_read(pack):
    files = {**FILES, "cat/\udce9.jpg": b"x"}
    assert contents(pack("tar", files)) == files


def test_a_list_in_an_archive_is_named_and_not_read(pack):
    files = {f"site_{n % 2}/{n}.jpg": b"x" for n in range(6)}
    rows = "".join(f"{name},{'cat' if n < 3 else 'dog'}\n" for n, name in enumerate(files))
    path = pack("zip", {**files, "labels.csv": f"filename,label\n{rows}".encode()})
    with pytest.raises(ConfigError, match=r"labels\.csv may give other labels") as said:
        read_source(str(path))
    assert "it can be read where the files are in a folder" in str(said.value)


def test_an_archive_is_unpacked_again_after_the_store_was_deleted(pack, tmp_path):
    """As in a notebook, where the folder of outputs is deleted between two runs."""
    spec, store = str(pack("zip", FILES)), tmp_path / "store"
    images = read_source(spec, store=str(store))
    shutil.rmtree(store)
    assert {item.path: images.reader.read(item) for item in images.items} == FILES
    shutil.rmtree(store)
    assert contents(spec, store=str(store)) == FILES


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["./cat/a.jpg", "cat", "cat/a.jpg/b.jpg"])
def test_two_members_of_one_path_are_refused(pack, kind, name):
    path = pack(kind, {**FILES, name: b"last"})
    with pytest.raises((ConfigError, ResourceError), match=r"of two members|cannot be unpacked"):
        read_source(str(path))


@pytest.mark.parametrize("kind", KINDS)
def test_an_unpacking_that_ends_early_leaves_nothing_that_counts(pack, tmp_path, kind, monkeypatch):
    spec, store = str(pack(kind, FILES)), tmp_path / "store"
    killed = RuntimeError("killed")
    monkeypatch.setattr(archive, "move_folder", lambda *_, **__: (_ for _ in ()).throw(killed))
    with pytest.raises(RuntimeError, match="killed"):
        read_source(spec, store=str(store))
    monkeypatch.undo()
    (store / "unpacked" / f"{TEMPORARY}left").mkdir()
    os.utime(store / "unpacked" / f"{TEMPORARY}left", (0, 0))  # by a process that was killed
    assert contents(spec, store=str(store)) == FILES
    (folder,) = (store / "unpacked").iterdir()
    (folder / archive.NOTES).unlink()  # as where a file system moves files one by one
    assert contents(spec, store=str(store)) == FILES
