"""Which folders are splits and classes, what is not used, and which trees are refused."""

import zipfile

import pytest

from imgpipe.components.example_gen.sources import open_source
from imgpipe.models.errors import ConfigError
from imgpipe.models.settings.data import DataSettings
from tests.components.example_gen.sources import followed_advice, trees
from tests.components.example_gen.sources.trees import counted, fill, paths


def read(folder, patterns, least_classes=2, **options):
    """Write the files of a tree, and return numbers of images by split and class, and the notes."""
    fill(folder, patterns)
    settings = DataSettings(**options)
    scan = open_source(str(folder), settings, least_classes=least_classes).listing()
    counts = {note["reason"]: note["count"] for note in scan.notes}
    return counted(scan), {reason: f"{path} {counts[reason]}" for reason, path in trees.noted(scan)}


def said(counts):
    """Return numbers of images as text, without the colon before a class that is in no split."""
    return " ".join(f"{of.removeprefix(':')}={count}" for of, count in sorted(counts.items()))


DIGITS = "train:0=2 train:1=2"
NO_IMAGES = "folder_without_images"
PETS = "cat=4 dog=4"
SPLIT = "test:a=2 test:b=2 train:a=2 train:b=2"


@pytest.mark.parametrize(
    ("tree", "expected", "noted"),
    [
        ("{boxes,mask,thumbs}/{1,2}", "boxes=2 mask=2 thumbs=2", {}),
        ("{training_set,test_set}/{a,b}/{1,2}", SPLIT, {}),
        ("{dsTrain,dsTest}/{a,b}/{1,2}", SPLIT, {}),
        ("{Trainingsdaten,Testdaten}/{a,b}/{1,2}", SPLIT, {}),
        ("{Train+Data,test_data}/{a,b}/{1,2}", SPLIT, {}),
        ("{train2017,test1}/{a,b}/{1,2}", SPLIT, {}),
        ("{a,b}/{train,test}/{1,2}", SPLIT, {}),
        ("train/train/{a,b}/{1,2} test/x/{a,b}/{1,2}", SPLIT, {"single_folder": "train/train 2"}),
        ("x/y/{train,test}/{a,b}/{1,2} x/read.me", SPLIT, {"single_folder": "x/y 1"}),
        ("train/{0,1}/{1,2} test/{1,2,3}", DIGITS, {"unlabelled_folder": "test 3"}),
        ("train/{0,1}/{1,2} val/images/{1,2}", DIGITS, {"unlabelled_folder": "val 2"}),
        ("{steam_train,freight_train}/1", "freight_train=1 steam_train=1", {}),
        ("train/{a,b}/{1,2} 1.jpg", "None=1 train:a=2 train:b=2", {}),
        ("train/{a,b}/{1,2} test/{a,b}/{1,2} README train/MD5SUMS", SPLIT, {}),
        ("x/{cat,dog}/{1,2,3,4}.jpg {LICENSE,CITATION.cff}", PETS, {"single_folder": "x 1"}),
        ("{cat,dog}/{1,2,3,4}.jpg Makefile", PETS, {"text_beside": "Makefile 1"}),
        ("{test,dog}/{1,2}", "dog=2 test=2", {}),
        ("{test_tube,train_track}/{1,2}", "test_tube=2 train_track=2", {}),
        ("{train_station,airport}/2019/{1,2}", "airport=2 train_station=2", {}),
        ("{cat,dog}/{1998,2003}/{1,2}", PETS, {}),
        ("{cat,dog}/{1,2,3,4,5}.jpg", "cat=5 dog=5", {}),
        ("{cat,dog}/IMG_00{1,2}_{7,8,9}.jpg", "cat=6 dog=6", {}),
        ("{cat,dog}/2023-01-0{1,2}/{1,2}", PETS, {}),
        ("{cat,dog}/{images/{1,2,3,4},notes/1.txt}", PETS, {NO_IMAGES: "dog/notes 2"}),
        ("{cat,dog}/{1,2,3,4} docs/{a.pdf,b.md}", PETS, {"folder_without_images": "docs 2"}),
        ("{cat,dog}/{1,2,3,4}.jpg{,.json}", PETS, {"text_beside": "cat/1.jpg.json 8"}),
        ("{cat,dog}/{1,2,3,4}.{jpg,NEF}", PETS, {"camera_raw_beside": "cat/1.NEF 8"}),
        ("{cat,dog}/{1,2,3,4}.{HEIC,foo}", PETS, {"other_beside": "cat/1.foo 8"}),
        ("{cat,dog}/{{1,2,3,4},#Recycle/1} @eaDir/1", PETS, {"hidden": "dog/#Recycle 3"}),
        ("GTSRB/Training/{a,b}/{0,1}.ppm GTSRB/Training/{a,b}/GT.csv", "a=2 b=2", {}),
        ("2750/{cat,dog}/{1,2,3,4}.jpg", PETS, {"single_folder": "2750 1"}),
        ("{Training,PrivateTest}/{a,b}/{1,2}.png", SPLIT, {}),
        ("images/{cat,dog}/{1,2,3,4}.jpg meta/{a.txt,b.json}", PETS, {NO_IMAGES: "meta 2"}),
    ],
)
def test_a_tree_means_what_the_contract_says(tmp_path, tree, expected, noted):
    counts, notes = read(tmp_path / "photos", tree)
    assert said(counts) == expected
    harmless = {"single_folder", "inner_folder", "text_file", "text_beside", "table_file"}
    assert notes.items() >= noted.items() and set(notes) <= {*noted, *harmless}


#: Trees that are refused: what is said, and what the commands read that are shown.
_REFUSED = [
    ("{oslo,rome}/{a,b}/{1,2}", "\\(a, b\\) are in oslo, rome", "a=4 b=4 | oslo=4 rome=4"),
    ("{1998,2003}/{cat,dog}/{1,2}", "either may be the classes", "cat=4 dog=4 | 1998=4 2003=4"),
    (
        "plants/{rose,lily}/{1,2} animals/{cat,dog}/{1,2}",
        "\\(cat, dog, lily, rose\\) are in",
        "animals=4 plants=4 | cat=2 dog=2 lily=2 rose=2",
    ),
    (
        "{train,test}/{a/{x,y},b/{v,w}}/1",
        "either may be the classes",
        f"{SPLIT} | test:v=1 test:w=1 test:x=1 test:y=1 train:v=1 train:w=1 train:x=1 train:y=1",
    ),
    ("{cat,dog}/{fed,lost}/{1,2}", "either may be the classes", "fed=4 lost=4 | cat=4 dog=4"),
    ("station/{in,out}/1 airport/1", "are in station", "airport=1 station=2 | None=1 in=1 out=1"),
    ("{cat,dog}/DCIM/{100CANON,101CANON}/{1,2}", "101CANON", "100CANON=4 101CANON=4 | cat=4 dog=4"),
    ("pics/{a,b}/{1,2,3,4} bbox/{a,b}/1", "are in bbox, pics", "a=5 b=5 | bbox=2 pics=8"),
    ("{color,grey,cut}/{a,b}/{1,2}", "color, cut, grey", "a=6 b=6 | color=4 cut=4 grey=4"),
    ("P/{cat,dog}/{1,2,3,4} P/P/{cat,dog}/1", "are in P,", "cat=4 dog=4 | P=2 cat=4 dog=4"),
    ("{a,b}/{1,2} new/{a,b}/1", "are in new", "a=2 b=2 | a=2 b=2 new=2"),
    ("P/{a,b}/{1,2} Q/x/{a,b}/{1,2}", "in P, Q", "None=4 a=2 b=2 | P=4 Q=4"),
    (
        "fold{1,2}/{train,test}/{a,b}/{1,2}",
        "in fold1, fold2",
        "test:a=4 test:b=4 train:a=4 train:b=4 | fold1=8 fold2=8",
    ),
    ("{a,b}/{1,2,3,4}{,_mask}.png a/1_mask_1.png", "those of \\*_mask\\*", "a=4 b=4 | a=9 b=8"),
    ("{a,b}/{{1,2,3,4},outlines/{1,2,3}_mask}.png", "those of \\*_mask\\*", "a=4 b=4 | a=7 b=7"),
    ("{a,b}/{{1,2,3,4}.jpg,outlines/{1,2,3}.png}", "those of outlines", "a=4 b=4 | a=7 b=7"),
    ("{a,b}/{1,2,3} {train,test}/{a,b}/{1,2}", "a, b beside", f"{SPLIT} | a=3 b=3 test=4 train=4"),
    ("{train,test}/{a,b}/{1,2} misc/1", "misc beside", f"{SPLIT} | misc=1 test=4 train=4"),
    (
        "seg_{train,test}/seg/{a,b}/{1,2} seg_pred/x/{1,2}",
        "seg_pred beside",
        f"{SPLIT} | seg_pred=2 seg_test=4 seg_train=4",
    ),
    (
        "xray/{,xray/}{train,test}/{a,b}/{1,2}",
        "xray beside them",
        f"{SPLIT} | test=4 train=4 xray=8",
    ),
    (
        "f/{Training,Test}/{a,b}/{1,2} f/test-several/{1,2}",
        "but not one folder",
        f"{SPLIT} | Test=4 Training=4 test-several=2",
    ),
    ("train/{cat,dog}.{1,2,3,4}.jpg test1/{1,2}.jpg", "no class", "train:cat=4 train:dog=4"),
    ("{val,test}/{a,b}/{1,2}", "test, val name splits, but not one", f"{SPLIT} | test=4 val=4"),
    (
        "train_images/{a,b}/{1,2} test/{1,2}",
        "and the same rest of",
        "train:a=2 train:b=2 | test=2 train_images=4",
    ),
    ("train/{a,b}/1 misc/1", "misc beside them do not", "a=1 b=1 | misc=1 train=2"),
    (
        "train/{a,b}/1 {val,validation}/a/1",
        "one folder",
        "train:a=1 train:b=1 validation:a=1 | train=2 val=1 validation=1",
    ),
    (
        "images/{cat,pug}_{1,2,3}.jpg maps/{cat,pug}_{1,2,3}.png",
        "same names throughout",
        "cat=3 pug=3 | images=6 maps=6",
    ),
    ("训练集/{a,b}/{1,2,3} 测试集/{a,b}/4", "are in 测试集, 训练集", "a=4 b=4 | 测试集=2 训练集=6"),
    (
        "Training/{a,b}/{1,2} Prüfung/{a,b}/{3,4} Y/{a,b}/{5,6}",
        "Prüfung, Y beside",
        "test:a=2 test:b=2 train:a=2 train:b=2 validation:a=2 validation:b=2 | "
        "Prüfung=4 Training=4 Y=4",
    ),
    ("gt/{x/{a,b},y}/1", "in x", "x=2 y=1 | None=1 a=1 b=1"),
    ("P/q/{a,b}/{1,2} train/q/c/{1,2} val/q/d/{1,2}", "P beside", "P=4 train=2 val=2"),
    ("{images,masks}/{3,5,6,8,9}.jpg", "same names throughout", "images=5 masks=5"),
    ("{cat,dog}.{1,2,3,4}.jpg", "found no class in 8 files", "cat=4 dog=4"),
    (
        "train/{a,b}_{1,2,3,4}.jpg test/{a,b}_{5,6,7}.jpg",
        "no class",
        "test:a=3 test:b=3 train:a=4 train:b=4",
    ),
]


@pytest.mark.parametrize(("tree", "message", "readings"), _REFUSED)
def test_a_tree_with_two_meanings_is_refused_with_commands(tmp_path, tree, message, readings):
    with pytest.raises(ConfigError, match=message) as refused:
        read(tmp_path, tree)
    scans = followed_advice.scans(refused.value)
    assert readings.split(" | ") == [said(counted(scan)) for scan in scans]
    assert "\n  level 1: " in str(refused.value) or "no class" in message
    assert "\n  data.class_level, data.skip, data.split_folders and data" in str(refused.value)


def test_a_refusal_says_what_stands_at_each_level(tmp_path):
    with pytest.raises(ConfigError, match="either may be the classes") as refused:
        read(tmp_path / "x", "{train,test}/{a/{u,v},b/{u,v}}/{1,2} train/3 labels.csv")
    assert str(refused.value).splitlines()[1:5] == [
        "  splits: test, train",
        "  level 1: a (8), b (8) of 16 images; 1 image beside them",
        "  level 2: u (8), v (8) of 16 images",
        "  lists: labels.csv",
    ]


def test_photographs_that_are_numbered_in_each_class_name_no_labels(tmp_path):
    counts, notes = read(tmp_path, "{paper,rock}/{IMG_{1,2,3},new-{1,2,3}}.jpg rock/new-4.tif")
    assert counts == {":paper": 6, ":rock": 7} and notes == {}


def test_skipped_folders_are_not_searched_for_labels_in_names(tmp_path):
    with pytest.raises(ConfigError, match="same names throughout"):
        read(tmp_path, "images/{cat,pug}_{1,2,3}.jpg maps/{cat,pug}_{1,2,3}.png")
    options = DataSettings(label_pattern=r"([a-z]+)_\d", skip=("maps",))
    scan = open_source(str(tmp_path), options).listing()
    assert counted(scan) == {":cat": 3, ":pug": 3}
    assert trees.noted(scan) == [("skipped", "maps")] and scan.notes[0]["count"] == 6


def test_an_archive_is_read_by_the_same_rules(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for path in paths("set/camera_{A,B}/{cat,dog}/{1,2}.jpg", "set/$RECYCLE.BIN/1.jpg"):
            archive.writestr(path, path)
    where = str(tmp_path / "x.zip")
    with pytest.raises(ConfigError, match="are in camera_A, camera_B") as refused:
        open_source(where).listing()
    assert PETS in [said(counted(scan)) for scan in followed_advice.scans(refused.value)]
    scan = open_source(where, DataSettings(class_level=2)).listing()
    assert scan.counts() == {"cat": 4, "dog": 4}
    assert {note["reason"] for note in scan.notes} == {"single_folder", "hidden"}


def test_a_refusal_names_whole_commands_with_the_settings_that_were_given(tmp_path):
    with pytest.raises(ConfigError, match="imgpipe check") as refused:
        read(tmp_path, "{oslo,rome}/{a,b}/{1,2} x/1", skip=("x",), group_pattern="(.)")
    command = """imgpipe check ROOT --set 'data.group_pattern=(.)' --set data.class_level=2 """
    sets = [set(options) for _, options in followed_advice.commands(refused.value)]
    assert all({"group_pattern", "skip"} <= given for given in sets), command


@pytest.mark.parametrize(
    ("skip", "expected", "noted"),
    [
        (("masks",), {":cat": 2, ":dog": 1}, "masks 2"),
        (("/cat/masks",), {":cat": 2, ":dog": 1}, "/cat/masks 2"),
        (("*_x.*",), {":cat": 4}, "*_x.* 1"),
        (("[masks]", "MASKS"), {":cat": 2, ":dog": 1}, "MASKS 2"),
    ],
)
def test_files_and_folders_are_skipped_by_name_path_and_pattern(tmp_path, skip, expected, noted):
    tree = "cat/{1,2}.jpg cat/masks/{1,2}.jpg dog/3_x.jpg"
    counts, notes = read(tmp_path, tree, skip=skip, least_classes=1, class_level=1)
    assert counts == expected and notes["skipped"] == noted


def test_a_pattern_that_finds_no_labels_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"found no class .*; data.label_pattern is \(x\)"):
        read(tmp_path, "{cat,dog}{1,2}.jpg", label_pattern="(x)")
