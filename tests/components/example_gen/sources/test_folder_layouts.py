"""Which folders are splits and classes, which are skipped, and which trees are refused."""

from __future__ import annotations

import collections
import json
import re
import shlex
import zipfile

import pytest

from imgpipe.components.example_gen.sources import SourceOptions, open_source
from imgpipe.models.errors import ConfigError


def paths(*patterns):
    """Return the paths that patterns such as `{cat,dog}/{1,2}.jpg` stand for."""
    found = []
    for pattern in patterns:
        choice = re.search(r"\{([^{}]*)\}", pattern)
        if choice is None:
            found.append(pattern)
            continue
        for name in choice[1].split(","):
            found += paths(pattern[: choice.start()] + name + pattern[choice.end() :])
    return found


def read(folder, patterns, **options):
    """Write the files of a tree, and return numbers of images by split and class, and the notes."""
    for path in paths(*patterns.split()):
        file = folder / path.replace("+", " ")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(path.encode())
    scan = open_source(str(folder), SourceOptions(**options)).listing()
    counts = collections.Counter(f"{item.split or ''}:{item.label}" for item in scan.items)
    notes = collections.defaultdict(str)
    for note in scan.notes:
        notes[note.kind] += f"{note.path}: {note.detail}. "
    return dict(counts), notes


PETS = {":cat": 4, ":dog": 4}
SPLIT = {"train:a": 2, "train:b": 2, "test:a": 2, "test:b": 2}


@pytest.mark.parametrize(
    ("tree", "expected", "kind", "detail"),
    [
        ("{training_set,test_set}/{a,b}/{1,2}", SPLIT, "split_names", "training_set is train"),
        ("{dsTrain,dsTest}/{a,b}/{1,2}", SPLIT, "split_names", "dsTest is test"),
        ("{Trainingsdaten,Testdaten}/{a,b}/{1,2}", SPLIT, "split_names", "Testdaten is test"),
        ("{训练集,测试集}/{a,b}/{1,2}", SPLIT, "split_names", "测试集 is test"),
        ("{Train+Data,testset}/{a,b}/{1,2}", SPLIT, "split_names", "testset is test"),
        ("{a,b}/{train,test}/{1,2}", SPLIT, "split_names", "the splits are the folders in the cl"),
        ("train/train/{a,b}/{1,2} test/x/{a,b}/{1,2}", SPLIT, "single_folder", "test/x: the only"),
        ("{train,test}/{a,b}/{1,2} pred/pred/{1,2}", SPLIT, "unlabelled_folder", "pred: 2 files"),
        ("{train,test}/roll_{1,2}/{a,b}/1", SPLIT, "class_level", "the folders a, b in roll_1, r"),
        ("clip{1,2}/{cat,dog}/{1,2}", PETS, "class_level", "clip1: the classes are the folders"),
        ("{1998,2003}/{cat,dog}/{1,2}", PETS, "class_level", "cat, dog in 1998, 2003"),
        ("slide{1,2,3,4}/{cat,dog}/1", PETS, "class_level", "the folders cat, dog in slide1"),
        ("{cat,dog}/{1998,2003}/{1,2}", PETS, "parts_of_classes", "1998, 2003 are parts of sev"),
        (
            "{cat,dog}/DCIM/{100CANON,101CANON}/{1,2}",
            PETS,
            "parts_of_classes",
            "101CANON are parts",
        ),
        (
            "{cat,dog}/{1,2,3,4} {docs/a.pdf,net/b.h5}",
            PETS,
            "skipped_folder",
            "net: 1 files: holds",
        ),
        ("{cat,dog}/{front,rear}/{1,2}", PETS, "parts_of_classes", "cat: the folders front, rear"),
        ("{cat,dog}/{farm1,farm2}/{1,2}", PETS, "parts_of_classes", "farm1, farm2"),
        ("{cat,dog}/{imgs,gt}/{1,2,3,4}", PETS, "skipped_folder", "gt: 4 files: belongs to the im"),
        ("{cat,dog}/{{1,2,3,4},outlines/{1,2}_mask}", PETS, "skipped_folder", "outlines: 2 files"),
        ("pics/{cat,dog}/{1,2,3,4} bbox/{cat,dog}/1", PETS, "skipped_folder", "bbox: 2 files"),
        (
            "{cat,dog}/{1,2,3,4} notes/{1.md,2.json}",
            PETS,
            "skipped_folder",
            "2 files: holds documents",
        ),
        ("P/{cat,dog}/{1,2,3,4} P/P/{cat,dog}/1", PETS, "skipped_folder", "holds the other"),
        ("{cat,dog}/{{1,2,3,4},#Recycle/1} @eaDir/1", PETS, "hidden", "dog/#Recycle"),
        ("{train,test}/{a/{x,y},b/{v,w}}/1", SPLIT, "", ""),
        ("{cat,dog}/{1,2,3,4}{,_mask}.png cat/1_mask_1.png", PETS, "skipped_files", "4 files: mas"),
        ("{with_mask,thumbs}/{1,2}", {":with_mask": 2, ":thumbs": 2}, "", ""),
        ("{steam_train,freight_train}/1", {":steam_train": 1, ":freight_train": 1}, "", ""),
    ],
)
def test_a_tree_is_read_as_it_is_meant_and_a_note_says_so(tmp_path, tree, expected, kind, detail):
    counts, notes = read(tmp_path / "photos", tree)
    assert counts == expected
    assert detail in notes[kind] and set(notes) <= {kind, "single_folder", "split_names"}


AS_FOLDERS = {":P": 4, ":Q": 4}
BOTH = {":a": 4, ":b": 4}


@pytest.mark.parametrize(
    ("tree", "message", "readings"),
    [
        ("{oslo,rome}/{a,b}/{1,2}", "If the classes are a, b: ", [BOTH, {":oslo": 4, ":rome": 4}]),
        ("p{1,2}/{a,b}/{1,2}", "p1, p2 hold the same folders", [BOTH, {":p1": 4, ":p2": 4}]),
        ("{cat,dog}/{fed,lost}/{1,2}", "If they are cat, dog: ", [{":fed": 4, ":lost": 4}, PETS]),
        ("{P,Q}/pics/{a,b}/{1,2}", "P, Q hold the same folders", [BOTH, AS_FOLDERS]),
        ("P/{a,b}/{1,2} Q/x/{a,b}/{1,2}", "in P, Q, so", [{":a": 2, ":b": 2}] * 2 + [AS_FOLDERS]),
        ("P/x/{train,test}/{a,b}/{1,2} Q/{1,2}", r"in P, so", [SPLIT, {":P": 8, ":Q": 2}]),
        ("{a,b}/{1,2} new/{a,b}/1", "so that it is hardly", [{":a": 2, ":b": 2}, None]),
        ("{a,b}/{1,2,3} {train,test}/{a,b}/{1,2}", "leave out a, b", [None, SPLIT]),
        ("train/{a,b}/{1,2} dev/{x,y}/1", "mixes split", [{"train:a": 2, "train:b": 2}]),
        ("{train,test}/{a,b}/{1,2} misc/1", "To leave them out: ", [SPLIT]),
    ],
)
def test_a_tree_with_two_meanings_is_refused_with_commands_that_work(
    tmp_path, tree, message, readings
):
    with pytest.raises(ConfigError, match=message) as refused:
        read(tmp_path, tree)
    found = []
    for command in re.findall(r"imgpipe check (.+?)(?=\. |$)", str(refused.value)):
        where, *sets = shlex.split(command)
        assert where == str(tmp_path)
        pairs = (setting.removeprefix("data.").split("=", 1) for setting in sets[1::2])
        found.append(read(tmp_path, tree, **{name: json.loads(value) for name, value in pairs})[0])
    pairs = zip(found, readings, strict=True)
    assert all(expected in (counts, None) for counts, expected in pairs)


def test_an_archive_is_read_by_the_same_rules(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for path in paths("set/camera_{A,B}/{cat,dog}/{1,2}.jpg", "set/$RECYCLE.BIN/1.jpg"):
            archive.writestr(path, path)
    scan = open_source(str(tmp_path / "x.zip")).listing()
    assert scan.counts() == {"cat": 4, "dog": 4}
    assert {note.kind for note in scan.notes} == {"single_folder", "class_level", "hidden"}


@pytest.mark.parametrize(
    ("tree", "options", "commands"),
    [
        (
            "{oslo,rome}/{a,b}/{1,2} x/1",
            {"skip": ("x",)},
            ["""imgpipe check ROOT --set 'data.skip=["x"]' --set data.class_level=2"""],
        ),
        (
            "{train,valid}.csv {train,valid}_images/{1,2}.jpg",
            {},
            [
                "If one of train.csv, valid.csv lists",
                "imgpipe check ROOT/train.csv --set data.root=ROOT/train_images or ",
                " or imgpipe check ROOT/valid.csv",
            ],
        ),
    ],
)
def test_a_refusal_names_whole_commands_with_the_settings_that_were_given(
    tmp_path, tree, options, commands
):
    with pytest.raises(ConfigError, match="imgpipe check") as refused:
        read(tmp_path, tree, **options)
    message = str(refused.value).replace(str(tmp_path), "ROOT")
    assert [command for command in commands if command not in message] == []
