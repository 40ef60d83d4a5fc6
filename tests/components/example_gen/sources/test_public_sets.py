"""Public data sets, drawn small: each is read right, or refused with commands that read it."""

from __future__ import annotations

import pytest

from imgpipe.components.example_gen.sources import open_source
from imgpipe.models.errors import ConfigError
from tests.components.example_gen.sources import followed_advice
from tests.components.example_gen.sources.trees import counted, fill

FROG = {f"{split}:{label}": 4 for split in ("train", "test") for label in ("frog", "truck")}
TRAIN_VAL = {
    f"{split}:{label}": 2
    for split in ("train", "validation")
    for label in ("n01440764", "n01443537")
}


def names(scan):
    """Return the kinds of what is not used."""
    return {note["reason"] for note in scan.notes} - {"single_folder"}


@pytest.mark.parametrize(
    ("tree", "counts", "unused"),
    [
        pytest.param(
            "food-101/images/{ramen,tacos}/{1,2}.jpg food-101/meta/{a.txt,b.json} food-101/R.txt",
            {":ramen": 2, ":tacos": 2},
            {"folder_without_images", "other_files"},
            id="Food-101",
        ),
        pytest.param(
            "{train,val}/{n01440764,n01443537}/{1,2}.JPEG LOC_synset_mapping.txt",
            TRAIN_VAL,
            {"other_files"},
            id="ImageNet",
        ),
        pytest.param(
            "train/{n01440764,n01443537}/{1,2}.JPEG val/ILSVRC2012_val_{1,2,3}.JPEG",
            {"train:n01440764": 2, "train:n01443537": 2},
            {"unlabelled_folder"},
            id="ImageNet with a flat val",
        ),
        pytest.param(
            "GTSRB/Training/{00000,00001}/{00000_{0,1}.ppm,GT.csv}",
            {":00000": 2, ":00001": 2},
            {"other_files"},
            id="GTSRB",
        ),
        pytest.param(
            "2750/{Forest,River}/{1,2}.jpg", {":Forest": 2, ":River": 2}, set(), id="EuroSAT"
        ),
        pytest.param(
            "{Training,PublicTest,PrivateTest}/{happy,sad}/1.png",
            {f"{s}:{c}": 1 for s in ("train", "validation", "test") for c in ("happy", "sad")},
            set(),
            id="FER2013",
        ),
        pytest.param("lfw/{Bush,Blair}/{1,2}.jpg", {":Bush": 2, ":Blair": 2}, set(), id="LFW"),
    ],
)
def test_a_public_set_is_read(tmp_path, tree, counts, unused):
    fill(tmp_path, tree)
    scan = open_source(str(tmp_path)).listing()
    assert counted(scan) == counts and names(scan) == unused


@pytest.mark.parametrize(
    ("tree", "lists", "message", "reading"),
    [
        pytest.param(
            "CUB/{images,segmentations}/{001.Albatross,002.Auk}/{1,2}.jpg CUB/images.txt",
            {},
            "are in images, segmentations",
            {":001.Albatross": 2, ":002.Auk": 2},
            id="CUB-200",
        ),
        pytest.param(
            "Images/{n1-Chow,n2-Pug}/{1,2}.jpg Annotation/{n1-Chow,n2-Pug}/{1,2}",
            {},
            "are in Annotation, Images",
            {":n1-Chow": 2, ":n2-Pug": 2},
            id="Stanford Dogs",
        ),
        pytest.param(
            "Plant/{color,grayscale,segmented}/{healthy,scab}/{1,2}.JPG",
            {},
            "are in color, grayscale, segmented",
            {":healthy": 2, ":scab": 2},
            id="PlantVillage",
        ),
        pytest.param(
            "seg_{train,test}/seg/{glacier,sea}/{1,2}.jpg seg_pred/seg_pred/{1,2}.jpg",
            {},
            "seg_pred beside them do not",
            {f"{s}:{c}": 2 for s in ("train", "test") for c in ("glacier", "sea")},
            id="Intel scenes",
        ),
        pytest.param(
            "xray/{,xray/}{train,test}/{NORMAL,ILL}/{1,2}.jpeg __MACOSX/1.jpg",
            {},
            "xray beside them do not",
            {f"{s}:{c}": 2 for s in ("train", "test") for c in ("NORMAL", "ILL")},
            id="Chest X-ray, twice",
        ),
        pytest.param(
            "images/{pug_{1,3,4},Manx_{2,5,6}}.jpg notes/trimaps/{pug_{1,3,4},Manx_{2,5,6}}.png",
            {},
            "images, notes have the same names throughout",
            {":pug": 3, ":Manx": 3},
            id="Oxford Pets",
        ),
        pytest.param(
            "{train,test}/{1,2,3,4}_{frog,truck}.png", {}, "found no class", FROG, id="CIFAR-10"
        ),
        pytest.param(
            "train/{cat,dog}.{1,2,3}.jpg test1/{1,2}.jpg",
            {},
            "found no class",
            {"train:cat": 3, "train:dog": 3},
            id="Dogs vs. Cats",
        ),
        pytest.param(
            "f/{Training,Test}/{Apple,Fig}/{1,2}.jpg f/test-multiple_fruits/{1,2}.jpg",
            {},
            "Test, Training, test-multiple_fruits name splits, but not one folder for each",
            {f"{s}:{c}": 2 for s in ("train", "test") for c in ("Apple", "Fig")},
            id="Fruits-360",
        ),
        pytest.param(
            "train/{1,2,3,4}.jpg test/{5,6}.jpg",
            {"train.csv": "Image,Id\n1.jpg,w_1\n2.jpg,w_2\n3.jpg,w_1\n4.jpg,w_2\n"},
            "found no class",
            {":w_1": 2, ":w_2": 2},
            id="Humpback Whale",
        ),
        pytest.param(
            "train_images/{1,2}.jpg",
            {"train.csv": "image_id,label\n1.jpg,0\n2.jpg,1\n", "label_map.json": "{}"},
            "found no class",
            {":0": 1, ":1": 1},
            id="Cassava",
        ),
        pytest.param(
            "images/{1,2,3,4}.jpg",
            {
                "train.csv": "path,label\nimages/1.jpg,cat\nimages/2.jpg,dog\n",
                "test.csv": "path,label\nimages/3.jpg,cat\nimages/4.jpg,dog\n",
            },
            "a list for each split: imgpipe check manifest:",
            {f"{split}:{label}": 1 for split in ("train", "test") for label in ("cat", "dog")},
            id="a list for each split",
        ),
        pytest.param(
            "images/{1,2}.jpg",
            {"train.txt": "images/1.jpg 0\nimages/2.jpg 1\n", "README.txt": "Caffe"},
            "found one class only",
            {":0": 1, ":1": 1},
            id="Caffe",
        ),
        pytest.param(
            "part_{0,1}/{{1,2}.jpg,{1,2}.cls}",
            {},
            "2.cls may give other labels than the folders; if so, write a list",
            {":part_0": 2, ":part_1": 2},
            id="WebDataset in folders",
        ),
    ],
)
def test_a_public_set_is_refused_with_commands_that_read_it(
    tmp_path, tree, lists, message, reading
):
    photos = tmp_path / "photos"
    fill(photos, tree)
    for name, text in lists.items():
        (photos / name).write_text(text)
    with pytest.raises(ConfigError, match=message) as refused:
        open_source(str(photos)).listing()
    scans = followed_advice.scans(refused.value)
    assert reading in map(counted, scans)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ("UTKFace/{20_0_1,31_1_0}_2017.jpg", "make a folder for each class"),
        ("{train2017,val2017}/{1,2}.jpg annotations/train.json", "make a folder for each class"),
        ("images/{train,val}/{1,2}.jpg labels/{train,val}/{1,2}.txt", "make a folder for each"),
        (
            "jpg/image_{1,2}.jpg imagelabels.mat",
            "may be in imagelabels.mat: make a folder",
        ),
        ("{1,2}.{jpg,cls}", "the labels may be in 1.cls, 2.cls: make a folder for each class"),
    ],
)
def test_a_public_set_that_no_setting_reads_is_refused_plainly(tmp_path, tree, message):
    fill(tmp_path, tree)
    with pytest.raises(ConfigError, match=message) as refused:
        open_source(str(tmp_path)).listing()
    assert "imgpipe check" not in str(refused.value)
