"""Which folders are splits and classes, what is not used, and which trees are refused."""

import zipfile

import numpy as np
import pytest

from imgpipe.components.example_gen.sources import read_source
from imgpipe.models.errors import ConfigError
from imgpipe.models.settings.data import DataSettings
from tests.components.example_gen.sources import followed_advice
from tests.components.example_gen.sources.trees import counted, fill, noted, paths
from tests.images import encoded, noise


def read(folder, patterns, least_classes=2, **options):
    """Write the files of a tree, and return its images."""
    fill(folder, patterns)
    return read_source(str(folder), DataSettings(**options), least_classes=least_classes)


def said(counts):
    """Return numbers of images as text, without the colon before a class that is in no split."""
    return " ".join(f"{of.removeprefix(':')}={count}" for of, count in sorted(counts.items()))


SIX = "{1,2,3,4,5,6}.jpg"
DIGITS = "train:0=2 train:1=2"
PETS = "cat=4 dog=4"
SPLIT = "test:a=2 test:b=2 train:a=2 train:b=2"


@pytest.mark.parametrize(
    ("tree", "expected", "reasons"),
    [
        ("{boxes,mask,thumbs}/{1,2}", "boxes=2 mask=2 thumbs=2", {}),
        ("{training_set,test_set}/{a,b}/{1,2}", SPLIT, {}),
        ("{dsTrain,dsTest}/{a,b}/{1,2}", SPLIT, {}),
        ("{Trainingsdaten,Testdaten}/{a,b}/{1,2}", SPLIT, {}),
        ("{Train+Data,test_data}/{a,b}/{1,2}", SPLIT, {}),
        ("{train2017,test1}/{a,b}/{1,2}", SPLIT, {}),
        ("{Training,PrivateTest}/{a,b}/{1,2}.png", SPLIT, {}),
        ("train/train/{a,b}/{1,2} test/x/{a,b}/{1,2}", SPLIT, {}),
        ("x/y/{train,test}/{a,b}/{1,2} x/read.me", SPLIT, {"beside_images": 1}),
        ("train/{0,1}/{1,2} test/{1,2,3}", DIGITS, {"unlabelled_split": 3}),
        ("train/{0,1}/{1,2} val/images/{1,2}", DIGITS, {"unlabelled_split": 2}),
        ("{steam_train,freight_train}/1", "freight_train=1 steam_train=1", {}),
        ("train/{a,b}/{1,2} test/{a,b}/{1,2} README train/MD5SUMS", SPLIT, {"beside_images": 2}),
        ("x/{cat,dog}/{1,2,3,4}.jpg {LICENSE,CITATION.cff}", PETS, {"beside_images": 2}),
        ("{test,dog}/{1,2}", "dog=2 test=2", {}),
        ("{test_tube,train_track}/{1,2}", "test_tube=2 train_track=2", {}),
        ("{train_station,airport}/2019/{1,2}", "airport=2 train_station=2", {}),
        ("{cat,dog}/{1998,2003}/{1,2}", PETS, {}),
        ("{cat,dog}/{1,2,3,4,5}.jpg", "cat=5 dog=5", {}),
        ("{cat,dog}/IMG_00{1,2}_{7,8,9}.jpg", "cat=6 dog=6", {}),
        ("{cat,dog}/2023-01-0{1,2}/{1,2}", PETS, {}),
        ("{cat,dog}/{images/{1,2,3,4},notes/1.txt}", PETS, {"beside_images": 2}),
        ("{cat,dog}/{1,2,3,4} docs/{a.pdf,b.md}", PETS, {"beside_images": 2}),
        ("{cat,dog}/{1,2,3,4}.jpg{,.json}", PETS, {"beside_images": 8}),
        ("{cat,dog}/{1,2,3,4}.{jpg,NEF}", PETS, {"beside_images": 8}),
        ("{cat,dog}/{1,2,3,4}.{HEIC,foo}", PETS, {"beside_images": 8}),
        ("{cat,dog}/{{1,2,3,4}.jpg,n.pdf}", PETS, {"no_image": 2}),
        ("{cat,dog}/{1,2,3,4}.jpg cat/5.jpg.cloudf x.zip.001", PETS, {"may_hold_images": 2}),
        ("{cat,dog}/{{1,2,3,4},#Recycle/1} @eaDir/1", PETS, {"hidden": 3}),
        ("GTSRB/Training/{a,b}/{0,1}.ppm GTSRB/Training/{a,b}/GT.csv", "a=2 b=2", {"no_image": 2}),
        ("{cat,dog}/{1,2,3,4}.jpg {c,m}/{a.txt,b.json}", PETS, {"beside_images": 4}),
        ("{paper,rock}/{IMG_{1,2,3},new-{1,2,3}}.jpg rock/n.tif", "paper=6 rock=7", {}),
    ],
)
def test_a_tree_means_what_the_contract_says(tmp_path, tree, expected, reasons):
    images = read(tmp_path / "photos", tree)
    assert said(counted(images)) == expected
    assert {finding["reason"]: finding["count"] for finding in images.findings} == reasons


#: Trees that are refused: what is said, and what the commands read that are shown.
_REFUSED = [
    (f"{{oslo,rome}}/{{a,b}}/{SIX}", r"\(a, b\) are in oslo, rome", "oslo=12 rome=12 | a=12 b=12"),
    (f"{{1998,2003}}/{{a,b}}/{SIX}", "either may be the classes", "1998=12 2003=12 | a=12 b=12"),
    (
        f"plant/{{rose,lily}}/{SIX} pet/{{cat,dog}}/{SIX}",
        r"\(cat, dog, lily, rose\) are in",
        "pet=12 plant=12 | cat=6 dog=6 lily=6 rose=6",
    ),
    (f"{{a,b}}/{{train,test}}/{SIX}", "a, b hold splits .*put the classes into the splits", None),
    (f"station/{{in,out}}/{SIX} airport/{SIX}", "are in station", "airport=6 station=12"),
    (f"{{cat,dog}}/DCIM/{{100CAN,101CAN}}/{SIX}", "101CAN", "cat=12 dog=12 | 100CAN=12 101CAN=12"),
    (f"{{a,b}}/{SIX} new/{{a,b}}/{SIX}", "are in new", "a=6 b=6 new=12"),
    (f"P/{{a,b}}/{SIX} Q/x/{{a,b}}/{SIX}", "in P, Q", "P=12 Q=12"),
    (f"{{a,b}}/{SIX} {{train,test}}/{{a,b}}/{SIX}", "in test, train", "a=6 b=6 test=12 train=12"),
    (f"train/{{a,b}}/{SIX} 1.jpg", "in train", "None=1 a=6 b=6"),
    (f"{{val,test}}/{{a,b}}/{SIX}", "in test, val", "test=12 val=12 | a=12 b=12"),
    (f"训练集/{{a,b}}/{SIX} 测试集/{{a,b}}/{SIX}", "in 测试集, 训练集", "测试集=12 训练集=12"),
    (f"p{{1,2,3,4}}/s1_{{ill,well}}/{SIX}", r"s1_ill, s1_well\) are in p1, p2, p3, p4", None),
    (
        f"p{{1,2}}/ill/{SIX} p{{3,4}}/well/{SIX}",
        r"folders of the same names \(ill, well\) are in",
        "p1=6 p2=6 p3=6 p4=6 | ill=12 well=12",
    ),
    ("{a,b}/{1,2,3,4,5,6}{,_mask}.png a/1_mask_1.png", r"those of \*_mask\*", "a=13 b=12"),
    ("{a,b}/{{1,2,3,4,5,6},outlines/{1,2,3}_mask}.png", r"those of \*_mask\*", "a=9 b=9"),
    ("{a,b}/{{1,2,3,4,5,6}.jpg,outlines/{1,2,3}.png}", "those of outlines", "a=9 b=9"),
    ("{images,maps}/{cat,pug}_{1,2,3}.jpg", "same names throughout", "images=6 maps=6"),
    ("{images,masks}/{3,5,6,8,9}.jpg", "same names throughout", None),
]


@pytest.mark.parametrize(("tree", "message", "readings"), _REFUSED)
def test_a_tree_with_two_meanings_is_refused_with_commands(tmp_path, tree, message, readings):
    with pytest.raises(ConfigError, match=message) as refused:
        read(tmp_path, tree)
    assert "\n  data.skip leaves out folders and files" in str(refused.value)
    found = [said(counted(images)) for images in followed_advice.read(refused.value)]
    if readings is not None:
        assert found[: readings.count("|") + 1] == readings.split(" | ")


def test_a_refusal_says_what_stands_at_each_level_and_keeps_the_given_settings(tmp_path):
    tree = f"{{train,test}}/{{tomato,potato}}/{{well,ill}}/{SIX} x/3"
    with pytest.raises(ConfigError, match="either may be the classes") as refused:
        read(tmp_path, tree, skip=("x",), group_pattern="(.)")
    lines = str(refused.value).splitlines()
    assert lines[1] == "  level 1: potato (24), tomato (24) of 48 images"
    assert lines[3] == "  level 2: ill (24), well (24) of 48 images"
    assert lines[5].startswith("  levels 1 and 2: potato/ill (12), potato/well (12), tomato/ill")
    given = [set(options) for _, options in followed_advice.commands(refused.value)]
    assert given == [
        {"class_level", "group_pattern", "skip"},
        {"class_level", "group_pattern", "skip"},
        {"label_pattern", "group_pattern", "skip"},
    ]
    (*_, joined) = followed_advice.read(refused.value)
    assert counted(joined)["test:tomato/well"] == 6 and len(joined.classes) == 4


def test_of_folders_of_the_same_files_the_masks_are_named(tmp_path):
    for name in ("x_3", "y_7", "z_1", "p_9", "q_4"):
        for folder, pixels in (("images", noise()), ("shapes", np.zeros((32, 32, 3), np.uint8))):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"{name}.png").write_bytes(encoded(pixels, "PNG"))
    with pytest.raises(ConfigError, match="those of shapes have few tones, as masks have"):
        read_source(str(tmp_path))


def test_skipped_folders_are_not_searched_for_labels_in_names(tmp_path):
    tree = "images/{cat,pug}_{1,2,3}.jpg maps/{cat,pug}_{1,2,3}.png"
    images = read(tmp_path, tree, label_pattern=r"([a-z]+)_\d", skip=("maps",))
    assert counted(images) == {":cat": 3, ":pug": 3}
    (skipped,) = images.findings
    assert (skipped["reason"], skipped["count"]) == ("skipped", 6)


def test_labels_in_names_have_the_splits_of_the_folders(tmp_path):
    tree = "train/{cat,dog}_{1,2}.jpg test/{cat,dog}_{3,4}.jpg test/none.jpg"
    images = read(tmp_path, tree, label_pattern=r"([a-z]+)_\d")
    assert said(counted(images)) == "test:cat=2 test:dog=2 train:cat=2 train:dog=2"
    assert noted(images) == [("unlabelled_file", "test/none.jpg")]


def test_an_archive_is_read_by_the_same_rules(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for path in paths(f"set/cam_{{A,B}}/{{cat,dog}}/{SIX}", "set/$RECYCLE.BIN/1.jpg"):
            archive.writestr(path, path)
    where = str(tmp_path / "x.zip")
    with pytest.raises(ConfigError, match="are in cam_A, cam_B") as refused:
        read_source(where)
    (_, classes, _) = followed_advice.read(refused.value)
    assert classes.counts() == {"cat": 12, "dog": 12}
    assert noted(classes) == [("hidden", "set/$RECYCLE.BIN")]


@pytest.mark.parametrize(
    ("skip", "expected", "count"),
    [
        (("masks",), {":cat": 2, ":dog": 1}, 2),
        (("/cat/masks",), {":cat": 2, ":dog": 1}, 2),
        (("*_x.*",), {":cat": 4}, 1),
        (("[masks]", "MASKS"), {":cat": 2, ":dog": 1}, 2),
    ],
)
def test_files_and_folders_are_skipped_by_name_path_and_pattern(tmp_path, skip, expected, count):
    tree = "cat/{1,2}.jpg cat/masks/{1,2}.jpg dog/3_x.jpg"
    images = read(tmp_path, tree, skip=skip, least_classes=1, class_level=1)
    assert counted(images) == expected
    assert noted(images) == [("skipped", skip[-1])] and images.findings[0]["count"] == count


def test_a_pattern_that_finds_no_labels_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"data.label_pattern '\(x\)' finds no label"):
        read(tmp_path, "{cat,dog}{1,2}.jpg", label_pattern="(x)")
