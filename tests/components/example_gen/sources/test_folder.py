"""Folder sources: layouts, splits, links, fingerprints, and errors that say what was found."""

import os
import tempfile
from pathlib import Path

import pytest

from imgpipe.components.example_gen.sources import open_source
from imgpipe.models.errors import ConfigError
from tests import python_program
from tests.components.example_gen.sources import followed_advice
from tests.components.example_gen.sources.trees import details, fill, noted, remedies


def test_labels_come_from_folder_names_in_sorted_order(tmp_path):
    scan = open_source(fill(tmp_path, "dog/a.jpg", "cat/b.JPeG", "cat/deep/er/c")).scan()
    assert scan.vocabulary == ("cat", "dog")
    assert [(i.path, i.label, i.split) for i in scan.items] == [
        ("cat/b.JPeG", "cat", None),
        ("cat/deep/er/c", "cat", None),
        ("dog/a.jpg", "dog", None),
    ]
    assert scan.given_splits == () and scan.counts() == {"cat": 2, "dog": 1}


def test_split_folders_are_taken_as_given(tmp_path):
    fill(tmp_path, "Train/a/1.jpg", "Train/b/2.jpg", "val/a/3.jpg", "test/b/4.jpg", "val/loose.jpg")
    scan = open_source(f"folder:{tmp_path}").listing()
    assert {(i.path, i.label, i.split) for i in scan.items} == {
        ("Train/a/1.jpg", "a", "train"),
        ("Train/b/2.jpg", "b", "train"),
        ("val/a/3.jpg", "a", "validation"),
        ("val/loose.jpg", None, "validation"),
        ("test/b/4.jpg", "b", "test"),
    }
    assert scan.given_splits == ("train", "validation", "test")


def test_the_fingerprint_depends_on_contents_and_labels_but_not_on_times(tmp_path):
    source = open_source(fill(tmp_path, "a/1.jpg", "b/2.jpg"))
    before = source.scan().fingerprint
    os.utime(tmp_path / "a/1.jpg", (1, 1))
    assert source.scan().fingerprint == before
    fill(tmp_path, "b/3.jpg")
    added = source.scan().fingerprint
    (tmp_path / "b/3.jpg").write_bytes(b"changed")
    assert len({before, added, source.scan().fingerprint}) == 3
    (tmp_path / "b/3.jpg").rename(tmp_path / "a/3.jpg")
    assert source.scan().fingerprint not in {before, added}


def test_hidden_files_links_cycles_and_special_files_are_noted(tmp_path):
    fill(tmp_path, "a/1.jpg", "b/2.jpg", "a/.DS_Store", ".git/x", "__MACOSX/a/1.jpg")
    fill(tmp_path, "a/.pending-1-x.jpg", "a/._1.jpg", "b/.3.jpg.icloud")
    (tmp_path / "b/.3.jpg.icloud").write_bytes(b"bplist00")
    (tmp_path / "b/link.jpg").symlink_to(tmp_path / "a/1.jpg")
    (tmp_path / "b/up").symlink_to(tmp_path)
    (tmp_path / "b/dead.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "c").symlink_to(tmp_path / "a")
    os.mkfifo(tmp_path / "a/pipe")
    scan = open_source(str(tmp_path)).scan()
    assert {
        ("hidden", "a/.DS_Store"),
        ("hidden", ".git"),
        ("hidden", "a/._1.jpg"),
        ("hidden_file", "a/.pending-1-x.jpg"),
        ("placeholder_file", "b/.3.jpg.icloud"),
        ("hidden", "__MACOSX"),
        ("symlink", "b/link.jpg"),
        ("repeated_link", "b/up"),
        ("special_file", "a/pipe"),
        ("symlink", "c"),
    } <= set(noted(scan))
    by_path = {i.path: i for i in scan.items}
    assert set(by_path) == {"a/1.jpg", "b/2.jpg", "b/dead.jpg", "b/link.jpg", "c/1.jpg"}
    assert by_path["b/dead.jpg"].sha256 == ""


def test_an_unreadable_folder_is_noted():
    with tempfile.TemporaryDirectory(
        dir="/tmp"
    ) as name:  # pytest's own folder is private, and another user cannot enter it
        folder = Path(name)
        folder.chmod(0o755)
        fill(folder, "a/1.jpg", "b/2.jpg", "b/shut/3.jpg")
        (folder / "b/shut").chmod(0)
        mine = os.geteuid()
        try:
            if mine == 0:
                os.seteuid(65534)  # the superuser can read every folder
            scan = open_source(name).listing()
        finally:
            os.seteuid(mine)
            (folder / "b/shut").chmod(0o755)
    assert ("unreadable_folder", "b/shut") in noted(scan)
    assert [item.path for item in scan.items] == ["a/1.jpg", "b/2.jpg"]


LISTS = {
    "a list of names": ("train/{1,2,3,4}.jpg", {"train.csv": "Image,Id\n1,a\n2,b\n3,a\n4,b\n"}),
    "a list in text": ("{1,2,3,4}.jpg", {"l.txt": "1.jpg a\n2.jpg b\n3.jpg a\n4.jpg b\n"}),
    "other labels": (
        "p_1/{1,2}.jpg p_2/{3,4}.jpg",
        {"m.csv": "id,dx\np_1/1,a\np_1/2,b\np_2/3,a\np_2/4,b\n"},
    ),
    "a list for each split": (
        "i/{1,2,3,4}.jpg",
        {"train.csv": "path,label\ni/1,a\ni/2,b\n", "test.csv": "path,y\ni/3.jpg,a\ni/4,b\n"},
    ),
}


@pytest.mark.parametrize("case", LISTS)
def test_a_list_beside_images_is_named_with_the_command_that_reads_it(tmp_path, case):
    tree, lists = LISTS[case]
    folder = tmp_path / "flat pics"
    fill(folder, tree)
    for name, text in lists.items():
        (folder / name).write_text(text)
    with pytest.raises(ConfigError, match=r"found|may give other labels than the f") as refused:
        open_source(str(folder)).listing()
    scan, *others = followed_advice.scans(refused.value)
    assert scan.counts() == {"a": 2, "b": 2}
    assert [other.counts() for other in others] == [{"p_1": 2, "p_2": 2}] * ("p_1" in tree)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"x.xml": b"", "y.xml": b""}, r"2 files \(x\.xml, y\.xml\), none of which is an image: x"),
        ({"one.jpg": b"", "two.jpg": b""}, r"such as one\.jpg\. Make a folder for each class, and"),
        (
            {"cat/1.jpg": b""},
            r"one class only \(cat\) in 1 file, .* such as cat/1\.jpg\. Make a folder for each",
        ),
        ({"1.jpg": b"", "x.xlsx": b"PK"}, r"may be in x\.xlsx\. .* or write a list \(.csv\)"),
        ({"i/1.jpg": b"", "labels.mat": b""}, r"may be in labels\.mat\. Make a folder for each"),
        ({"1.jpg": b"", "1.cls": b"0"}, r"may be in 1\.cls\. Make a folder for each"),
        (
            {f"p{n}/{n}.{kind}": b"" for n in "12" for kind in ("jpg", "cls")},
            r"p2/2\.cls.* may give other labels than the folders; if .* write a list \(\.csv\)",
        ),
        ({"train/1.jpg": b"", "test/2.jpg": b""}, "in 2 files.* Make a folder for each class"),
        (
            {
                "data_batch_1": b"\x80\x02}q",
                "test_batch": b"\x80\x02}q",
                "batches.meta": b"\x80\x02",
            },
            "3 files .*, none of which is an image: batches.meta .* such as tfds:mnist and ",
        ),
        ({}, "found no class in 0 files, at least two are needed; expected .* It holds no file"),
    ],
)
def test_a_folder_without_classes_says_which_situation_it_is(tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        open_source(str(tmp_path)).listing()


def test_lists_that_are_not_read_are_named(tmp_path):
    spec = fill(tmp_path / "x", "a/1.jpg", "a/2.jpg", "b/3.jpg", "b/4.jpg", "labels.xlsx")
    scan = open_source(spec).listing()
    assert [*details(scan, "unread_list")] == ["labels.xlsx"]
    [way] = remedies(scan, "unread_list")
    assert way.startswith("save it as CSV, and name that instead (docs/how-to/lists.md")
    assert ("table_beside", "labels.xlsx") in noted(scan) and len(scan.items) == 4


@pytest.mark.parametrize("front", ["/data/", ""])
def test_a_list_is_compared_with_the_folders_by_path(tmp_path, front):
    spec = fill(tmp_path, "crow/1.jpg", "crow/2.jpg", "dove/1.jpg", "dove/2.jpg")
    rows = "".join(f"{front}{label}/{n}.jpg,{label}\n" for label in ("crow", "dove") for n in "12")
    (tmp_path / "birds.csv").write_text(f"path,label\n{rows}")
    assert open_source(spec).listing().counts() == {"crow": 2, "dove": 2}


def test_missing_folders_and_files_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="does not exist; expected a folder with one sub-folder"):
        open_source(str(tmp_path / "no")).listing()
    fill(tmp_path, "photos.txt")
    with pytest.raises(ConfigError, match="is a file"):
        open_source(str(tmp_path / "photos.txt")).listing()
    with pytest.raises(ConfigError, match="no data source given"):
        open_source(" ")


def test_scanning_imports_neither_tensorflow_nor_tfx(tmp_path):
    fill(tmp_path, "a/1.jpg", "b/2.jpg")
    code = (
        "import sys; from imgpipe.components.example_gen.sources import open_source; "
        f"open_source({str(tmp_path)!r}).scan(); "
        "print([m for m in ('tensorflow', 'tfx', 'apache_beam') if m in sys.modules])"
    )
    assert python_program.printed(code).strip() == "[]"
