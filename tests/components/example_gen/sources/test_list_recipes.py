"""The programs of docs/how-to/lists.md write lists that are read, each for a table of its form."""

import re
from pathlib import Path

import pytest

from imgpipe.components.example_gen.sources import read_source
from tests.components.example_gen.sources.trees import counted, fill

_PAGE = Path(__file__).resolve().parents[4] / "docs/how-to/lists.md"
_PROGRAMS = dict(
    re.findall(
        r"^## ([^\n]+)\n(?:(?!^##).)*?^```python\n(.*?)^```", _PAGE.read_text("utf-8"), re.M | re.S
    )
)
_IMAGES = "{a,b,c}.jpg"
_CAT_DOG = {":cat": 1, ":dog": 1}
_SPLITS = ("train", "valid", "test")
_UPLOADED = "/data/upload/1/1f3a9c2e-a.jpg,cat\n/data/?d=b.jpg,dog\n"
_AUTOML = "TRAIN,gs://BUCKET/{0}a.jpg,cat\nTEST,gs://BUCKET/{0}b.jpg,dog\nUNASSIGNED,gs://BUCKET/{0}c.jpg,dog\n"
_FER = "".join(
    f"{n},{' '.join([str(n)] * 16)},{split}\n"
    for n, split in ((0, "Training"), (1, "Training"), (1, "PublicTest"))
)
#: By the title of each program: the tree of images, list.csv, and what the written list gives.
_LISTS = {
    "A column of zeros and ones for each class": (
        _IMAGES,
        "image, cat, dog\na.jpg, 1, 0\nb.jpg, 0, 1\nc.jpg, 1, 1\n",
        _CAT_DOG,
    ),
    "Several labels in one cell": (
        _IMAGES,
        "path,label\na.jpg,cat\nb.jpg,dog\nc.jpg,cat|dog\n",
        _CAT_DOG,
    ),
    "Numbers instead of names of files": (
        "{000000,000001,000002}.jpg",
        "id,label\n1,cat\n2,dog\n",
        _CAT_DOG,
    ),
    "Names that a labelling tool has changed": (_IMAGES, f"image,label\n{_UPLOADED}", _CAT_DOG),
    "Files in other folders than the list says": (
        "part_1/{1,2}.jpg part_2/3.jpg",
        "image_id,dx\n1,cat\n3.jpg,dog\n",
        _CAT_DOG,
    ),
    "Names with accents, spaces or capital letters that were changed": (
        "\u00fc/{A,b}.jpg",
        "path,label\nu\u0308/a.JPG,cat\nu\u0308/b.jpg,dog\n",
        _CAT_DOG,
    ),
    "A column of splits with another name": (
        _IMAGES,
        "path,label,Usage\na.jpg,cat,Training\nb.jpg,dog,Training\nc.jpg,dog,PrivateTest\n",
        {"train:cat": 1, "train:dog": 1, "test:dog": 1},
    ),
    "Paths of another machine": (
        "owl/{a,b}.jpg",
        "path,label\n/kaggle/input/birds/owl/a.jpg,cat\nowl/b.jpg,dog\n",
        _CAT_DOG,
    ),
    "A table of Google AutoML": (
        "birds/{a,b,c}.jpg",
        _AUTOML.format("birds/"),
        {"train:cat": 1, "test:dog": 1, ":dog": 1},
    ),
    "Another encoding": (
        _IMAGES,
        "path,label\na.jpg,Gr\u00fcn\nb.jpg,Wei\u00df\n".encode("cp1252"),
        {":Gr\u00fcn": 1, ":Wei\u00df": 1},
    ),
    "Numbers of classes, and a table of their names": (
        _IMAGES,
        "path,label\na.jpg,0\nb.jpg,1\n",
        _CAT_DOG,
    ),
    "Text files with the names of the images of each split": (
        _IMAGES,
        "path,label\na.jpg,cat\nb.jpg,dog\nc.jpg,dog\n",
        {"train:cat": 1, "train:dog": 1, "test:dog": 1},
    ),
    "A list for each split": (
        "{train,valid,test}/{a,b}.jpg",
        "",
        {f"{split}:{c}": 1 for split in ("train", "validation", "test") for c in ("cat", "dog")},
    ),
    "A list in the folder of each split": (
        "{train,valid,test}/{a,b}.jpg",
        "",
        {f"{split}:{c}": 1 for split in ("train", "validation", "test") for c in ("cat", "dog")},
    ),
    "A table with all pixels of an image in one cell": (
        "",
        f"emotion,pixels,Usage\n{_FER}",
        {"train:0": 1, "train:1": 1, "validation:1": 1},
    ),
    "Folds": (
        _IMAGES,
        "path,label,fold\na.jpg,cat,2\nb.jpg,dog,3\nc.jpg,cat,0\n",
        {"train:cat": 1, "train:dog": 1, "test:cat": 1},
    ),
    "A file with the label beside each image": ("x/{a,b}.jpg", "", _CAT_DOG),
}
_OTHER_FILES = {
    "Numbers of classes, and a table of their names": {
        "classes.csv": "number,name\n0,cat\n1,dog\n"
    },
    "Text files with the names of the images of each split": {"test_list.txt": "c.jpg\n"},
    "A list for each split": {
        f"{split}.csv": f"path,label\n{split}/a.jpg,cat\n{split}/b.jpg,dog\n" for split in _SPLITS
    },
    "A list in the folder of each split": {
        f"{split}/_classes.csv": "filename, cat, dog\na.jpg, 1, 0\nb.jpg, 0, 1\n"
        for split in _SPLITS
    },
    "A file with the label beside each image": {"x/a.cls": "cat", "x/b.cls": "dog"},
}


@pytest.mark.parametrize("title", _LISTS)
def test_a_program_writes_a_list_that_is_read(tmp_path, monkeypatch, title):
    tree, text, counts = _LISTS[title]
    fill(tmp_path, tree)
    for name, content in {"list.csv": text, **_OTHER_FILES.get(title, {})}.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.chdir(tmp_path)
    exec(compile(_PROGRAMS[title], title, "exec"), {})
    images = read_source(str(tmp_path / "labelled.csv")).hashed()
    assert counted(images) == counts and all(item.sha256 for item in images.items)
