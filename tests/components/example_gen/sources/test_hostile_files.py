"""Files made to hang, to exhaust memory or to lead out of the source are refused and named."""

import json
import os
import resource
import struct
import zipfile
import zlib
from pathlib import Path

import google_crc32c
import pytest

from imgpipe.components.common.storage.records import make, serialise
from imgpipe.components.example_gen.sources import read_source
from imgpipe.models.errors import ConfigError
from imgpipe.models.settings.data import DataSettings
from tests.components.example_gen.sources.trees import details, problems


@pytest.fixture(autouse=True)
def little_memory():
    """Limit memory to 2 GiB more, so that a reader that trusts a file fails at once."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (2 << 30), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def test_lists_of_very_many_columns_are_refused_at_once(tmp_path):
    """Rows with other keys took rows × keys of memory, and pandas a minute for 200,000 columns."""
    rows = [{"path": f"{c}.jpg", "label": c, f"{c}{n}": 1} for n in range(5000) for c in "ab"]
    (tmp_path / "l.jsonl").write_text("\n".join(map(json.dumps, rows)))
    more = ",".join(f"c{n}" for n in range(200_000))
    (tmp_path / "l.csv").write_text(f"path,label,{more}\na.jpg,a\n")
    for name, columns in (("l.jsonl", "10,002"), ("l.csv", "200,002")):
        with pytest.raises(ConfigError, match=f"it has {columns} columns"):
            problems(tmp_path / name)


def test_a_path_of_millions_of_characters_is_named_by_its_beginning(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    file = sheet(tmp_path, "x" * 3_000_000, "a.jpg")
    ((refused, why), fine) = sorted(problems(file).items(), reverse=True)
    assert fine == ("a.jpg", "") and len(refused) < 100
    assert "3,000,000 characters" in why and len(why) < 200
    sheet(tmp_path, "x" * 3_000_000, "y" * 3_000_000)
    with pytest.raises(ConfigError, match="3,000,000 characters") as error:
        problems(file)
    assert len(str(error.value)) < 1000


def sheet(folder, *paths):
    """Write a list of these paths with alternating labels and return its path."""
    file = folder / "list.csv"
    rows = [f"{path},{'ab'[n % 2]}" for n, path in enumerate(paths)]
    file.write_text("\n".join(["path,label", *rows]))
    return file


def zip_of(path, method, content=bytes(1 << 26), claimed=1000):
    """Write a ZIP archive of two members that claim to be `claimed` bytes long."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in ("a/1.jpg", "b/2.jpg"):
            archive.writestr(name, content)
        for info in archive.infolist():
            info.file_size, info.CRC = claimed, zlib.crc32(content[:claimed])
    return path


def test_a_zip_member_is_unpacked_no_further_than_it_claims(tmp_path):
    images = read_source(str(zip_of(tmp_path / "x.zip", zipfile.ZIP_DEFLATED)))
    assert [len(images.reader.read(item)) for item in images.items] == [1000, 1000]


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_zip_members_whose_decoder_cannot_be_bounded_are_refused(tmp_path, method):
    path = zip_of(tmp_path / "x.zip", method, bytes(9), 9)
    with pytest.raises(ConfigError, match=rf"'a/1\.jpg' is packed by method {method} of"):
        read_source(str(path))


def masked(data):
    """Return the masked CRC-32C of the data as TFRecord files store it, 4 bytes."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def test_a_record_that_claims_a_tebibyte_is_refused(tmp_path):
    record = serialise(make({"image": b"x", "label": "a"}))
    parts = []
    for length in (len(record), 1 << 40):
        head = struct.pack("<Q", length)
        parts.append(head + masked(head) + record + masked(record))
    (tmp_path / "x.tfrecord").write_bytes(b"".join(parts))
    with pytest.raises(ConfigError, match=r"record 1 at byte \d+ .*claims 1,099,511,627,776 bytes"):
        read_source(str(tmp_path / "x.tfrecord"))


def test_listed_pipes_devices_and_huge_sparse_files_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    with (tmp_path / "hole.jpg").open("wb") as file:
        file.truncate(8 << 40)
    (tmp_path / "fine.jpg").write_bytes(b"x")
    found = problems(
        sheet(tmp_path, "pipe.jpg", "zero.jpg", "hole.jpg", "fine.jpg"),
        DataSettings(follow_links=True),
    )
    assert found == {
        "pipe.jpg": "is not a regular file (a pipe, a socket or a device)",
        "zero.jpg": "is not a regular file (a pipe, a socket or a device)",
        "hole.jpg": "8,388,608 MiB are over the limit of 256 MiB",
        "fine.jpg": "",
    }


def test_links_that_leave_the_folder_are_read_only_where_allowed(tmp_path):
    (tmp_path / "secret").write_bytes(b"private")
    root = tmp_path / "photos"
    for name in ("a/1.jpg", "b/2.jpg"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_bytes(b"x")
    (root / "a/out.jpg").symlink_to(tmp_path / "secret")
    (root / "a/in.jpg").symlink_to("../b/2.jpg")
    (tmp_path / "more").mkdir()
    (tmp_path / "more/3.jpg").write_bytes(b"y")
    (root / "b/more").symlink_to(tmp_path / "more")
    allowed = DataSettings(follow_links=True)
    listed = sheet(root, "a/1.jpg", "b/2.jpg", "a/out.jpg", "a/in.jpg")
    for spec in (root, listed):
        found = problems(spec)
        assert found.pop("a/out.jpg") == (
            f"is a link to '{tmp_path}/secret', outside of the data source; use "
            "--set data.follow_links=true to read it"
        )
        assert set(found.values()) == {""}
        assert problems(spec, allowed)["a/out.jpg"] == ""
    links = details(read_source(str(root)), "outside_link")
    assert [*links] == ["b/more"] and "data.follow_links" in links["b/more"]
    assert "b/more/3.jpg" in problems(root, allowed)


@pytest.mark.parametrize("name", ["x.csv", "x.tfrecord"])
def test_tables_and_record_files_that_link_out_of_the_folder_are_refused(tmp_path, name):
    (tmp_path / "elsewhere").write_text(",".join(map(str, range(17))))
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=f"{name}' is not read: .* is a link to .*outside of"):
        read_source(str(folder))
