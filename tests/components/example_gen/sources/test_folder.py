"""Folders: links, hidden and special files, fingerprints, and errors that say what was found."""

import os
import tempfile
from pathlib import Path

import pytest

from imgpipe.components.example_gen.sources import read_source
from imgpipe.models.errors import ConfigError
from imgpipe.models.settings.data import DataSettings
from tests import python_program
from tests.components.example_gen.sources import followed_advice
from tests.components.example_gen.sources.trees import counted, fill, noted


def test_labels_come_from_folder_names_in_sorted_order(tmp_path):
    images = read_source(fill(tmp_path, "dog/a.jpg", "cat/b.JPeG", "cat/deep/er/c"))
    assert images.classes == ("cat", "dog")
    assert [(i.path, i.label, i.split) for i in images.items] == [
        ("cat/b.JPeG", "cat", None),
        ("cat/deep/er/c", "cat", None),
        ("dog/a.jpg", "dog", None),
    ]
    assert images.given_splits == () and images.counts() == {"cat": 2, "dog": 1}


def test_split_folders_are_taken_as_given(tmp_path):
    fill(tmp_path, "Train/a/1.jpg", "Train/b/2.jpg", "val/a/3.jpg", "test/b/4.jpg", "val/loose.jpg")
    images = read_source(str(tmp_path))
    assert {(i.path, i.label, i.split) for i in images.items} == {
        ("Train/a/1.jpg", "a", "train"),
        ("Train/b/2.jpg", "b", "train"),
        ("val/a/3.jpg", "a", "validation"),
        ("val/loose.jpg", None, "validation"),
        ("test/b/4.jpg", "b", "test"),
    }
    assert images.given_splits == ("train", "validation", "test")


def test_the_fingerprint_depends_on_contents_and_labels_but_not_on_times(tmp_path):
    def fingerprint():
        return read_source(str(tmp_path)).hashed().fingerprint

    fill(tmp_path, "a/1.jpg", "b/2.jpg")
    before = fingerprint()
    os.utime(tmp_path / "a/1.jpg", (1, 1))
    assert fingerprint() == before
    fill(tmp_path, "b/3.jpg")
    added = fingerprint()
    (tmp_path / "b/3.jpg").write_bytes(b"changed")
    assert len({before, added, fingerprint()}) == 3
    (tmp_path / "b/3.jpg").rename(tmp_path / "a/3.jpg")
    assert fingerprint() not in {before, added}


def test_a_tree_of_very_many_levels_is_read(tmp_path):
    deep = "/".join(["d"] * 500)
    images = read_source(fill(tmp_path, f"{deep}/cat/1.jpg", f"{deep}/dog/1.jpg"))
    assert counted(images) == {":cat": 1, ":dog": 1}


def test_what_is_hidden_or_loops_is_noted_and_what_is_no_file_is_an_item(tmp_path):
    fill(tmp_path, "a/1.jpg", "b/2.jpg", "a/.DS_Store", ".git/x", "__MACOSX/a/1.jpg")
    fill(tmp_path, "a/.pending-1-x.jpg", "a/._1.jpg", "b/.3.jpg.icloud")
    (tmp_path / "b/link.jpg").symlink_to(tmp_path / "a/1.jpg")
    (tmp_path / "b/up").symlink_to(tmp_path)
    (tmp_path / "b/dead.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "c").symlink_to(tmp_path / "a")
    os.mkfifo(tmp_path / "a/pipe.jpg")
    images = read_source(str(tmp_path)).hashed()
    assert {note for note in noted(images) if not note[1].startswith("c/")} == {
        *(("hidden", path) for path in ("a/.DS_Store", ".git", "a/._1.jpg", "__MACOSX")),
        ("hidden_file", "a/.pending-1-x.jpg"),
        ("may_hold_images", "b/.3.jpg.icloud"),
        ("repeated_link", "b/up"),
    }
    by_path = {item.path: item for item in images.items}
    here = {"a/1.jpg", "b/2.jpg", "b/link.jpg", "c/1.jpg"}
    assert set(by_path) == {*here, "a/pipe.jpg", "b/dead.jpg", "c/pipe.jpg"}
    assert {path for path, item in by_path.items() if item.sha256} == here


def test_what_cannot_be_entered_stands_beside_the_verdict():
    """Neither may be called clean: images are lost."""
    with tempfile.TemporaryDirectory(
        dir="/tmp"
    ) as name:  # pytest's own folder is private, and another user cannot enter it
        Path(name).chmod(0o755)
        fill(Path(name) / "far", "3.jpg")
        folder = Path(name) / "photos"
        fill(folder, "a/1.jpg", "b/2.jpg", "b/shut/3.jpg")
        (folder / "b/linked").symlink_to("../../far")
        (folder / "b/shut").chmod(0)
        mine = os.geteuid()
        try:
            if mine == 0:
                os.seteuid(65534)  # the superuser can read every folder
            images = read_source(str(folder))
        finally:
            os.seteuid(mine)
            (folder / "b/shut").chmod(0o755)
    deciding = [finding for finding in images.findings if finding["decides"]]
    assert [finding["sentence"] for finding in deciding] == [
        "1 link to another folder (b/linked)",
        "1 folder that cannot be read (b/shut)",
    ]
    assert "--set data.follow_links=true" in deciding[0]["remedies"][0]
    assert [item.path for item in images.items] == ["a/1.jpg", "b/2.jpg"]


_OTHER = "id,label\np_1/3,a\np_2/3,b\np_1/4,a\np_2/4,b\n"
LISTS = {
    "a list of names": ("train/{1,2,3,4}.jpg", "train.csv", "Image,label\n1,a\n2,b\n3,a\n4,b\n"),
    "a list in text": ("{1,2,3,4}.jpg", "l.txt", "1.jpg a\n2.jpg b\n3.jpg a\n4.jpg b\n"),
    "other labels": ("p_{1,2}/{3,4}.jpg", "m.csv", _OTHER),
    "without a header": ("x/{1,2,3,4}.jpg", "l.tsv", "x/1\ta\nx/2\tb\nx/3\ta\nx/4\tb\n"),
}


@pytest.mark.parametrize("case", LISTS)
def test_a_list_beside_images_is_named_with_the_command_that_reads_it(tmp_path, case):
    tree, name, text = LISTS[case]
    folder = tmp_path / "flat pics"
    fill(folder, tree)
    (folder / name).write_text(text)
    with pytest.raises(ConfigError, match=f"{name} names images: ") as refused:
        read_source(str(folder))
    (images,) = followed_advice.read(refused.value)
    assert images.counts() == {"a": 2, "b": 2}


@pytest.mark.parametrize("front", ["/data/", ""])
def test_a_list_that_says_the_same_as_the_folders_asks_nothing(tmp_path, front):
    spec = fill(tmp_path, "crow/1.jpg", "crow/2.jpg", "dove/1.jpg", "dove/2.jpg")
    rows = "".join(f"{front}{label}/{n}.jpg,{label}\n" for label in ("crow", "dove") for n in "12")
    (tmp_path / "birds.csv").write_text(f"path,label\n{rows}")
    assert read_source(spec).counts() == {"crow": 2, "dove": 2}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ("{x,y}.xml", r"found no image, but 2 files \(\.xml 2\); expected a folder with one sub-f"),
        ("{one,two}.jpg", r"found 2 images in no folder of a class, such as \w+\.jpg; expected"),
        ("cat/1.jpg", r"one class, cat \(1 image\)\. A .* second: add a folder beside cat/ with"),
        ("{train,test}/{1,2}.jpg", "found 4 images in no folder of a class.*data.label_pattern"),
        ("{train,val}/x-{1,2}.tfrec", r"but 4 files .*\n  4 TFRecord files \(train/x-1.tfrec, "),
        ("", "found no file; expected a folder"),
    ],
)
def test_a_folder_without_classes_says_what_it_holds(tmp_path, tree, message):
    fill(tmp_path, tree) if tree else None
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        read_source(str(tmp_path))


def test_classes_behind_links_are_named_where_no_class_is_left(tmp_path):
    fill(tmp_path / "far", "cat/1.jpg", "dog/2.jpg")
    (tmp_path / "photos").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).symlink_to(tmp_path / "far" / name)
    with pytest.raises(ConfigError, match=r"2 links to other folders \(cat, dog\); if you trust"):
        read_source(str(tmp_path / "photos"))
    images = read_source(str(tmp_path / "photos"), DataSettings(follow_links=True))
    assert counted(images) == {":cat": 1, ":dog": 1}


def test_missing_folders_and_files_are_refused(tmp_path):
    fill(tmp_path, "photos/cat/1.jpg", "x.pdf")
    with pytest.raises(ConfigError, match=r"does not exist.*photos.*expected a folder with one su"):
        read_source(str(tmp_path / "photo"))
    with pytest.raises(ConfigError, match="is a file that is not read"):
        read_source(str(tmp_path / "x.pdf"))
    with pytest.raises(ConfigError, match="no data source given"):
        read_source(" ")


def test_listing_and_hashing_import_neither_tensorflow_nor_tfx(tmp_path):
    fill(tmp_path, "a/1.jpg", "b/2.jpg")
    code = (
        "import sys; from imgpipe.components.example_gen.sources import read_source; "
        f"read_source({str(tmp_path)!r}).hashed(); "
        "print([m for m in ('tensorflow', 'tfx', 'apache_beam') if m in sys.modules])"
    )
    assert python_program.printed(code).strip() == "[]"
