"""The programs of docs/how-to/lists.md write lists that are read, each for a table of its form."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from imgpipe.components.example_gen.sources import open_source
from tests.components.example_gen.sources.trees import counted, fill

_PAGE = Path(__file__).resolve().parents[4] / "docs/how-to/lists.md"
_PROGRAMS = dict(
    re.findall(
        r"^## ([^\n]+)\n(?:(?!^##).)*?^```python\n(.*?)^```", _PAGE.read_text("utf-8"), re.M | re.S
    )
)
_IMAGES = "{a,b,c}.jpg"
_CAT_DOG = {":cat": 1, ":dog": 1}


@pytest.mark.parametrize(
    ("title", "tree", "files", "counts"),
    [
        (
            "A column of zeros and ones for each class",
            _IMAGES,
            {"list.csv": "image, cat, dog\na.jpg, 1, 0\nb.jpg, 0, 1\nc.jpg, 1, 1\n"},
            _CAT_DOG,
        ),
        (
            "Several labels in one cell",
            _IMAGES,
            {"list.csv": "path,label\na.jpg,cat\nb.jpg,dog\nc.jpg,cat|dog\n"},
            _CAT_DOG,
        ),
        (
            "Numbers instead of names of files",
            "{000000,000001,000002}.jpg",
            {"list.csv": "id,label\n1,cat\n2,dog\n"},
            _CAT_DOG,
        ),
        (
            "Names that a labelling tool has changed",
            _IMAGES,
            {"list.csv": "image,label\n/data/upload/1/1f3a9c2e-a.jpg,cat\n/data/?d=b.jpg,dog\n"},
            _CAT_DOG,
        ),
        (
            "Files in other folders than the list says",
            "part_1/{1,2}.jpg part_2/3.jpg",
            {"list.csv": "image_id,dx\n1,cat\n3.jpg,dog\n"},
            _CAT_DOG,
        ),
        (
            "Paths of another machine",
            "owl/{a,b}.jpg",
            {"list.csv": "path,label\n/kaggle/input/birds/owl/a.jpg,cat\nowl/b.jpg,dog\n"},
            _CAT_DOG,
        ),
        (
            "A table of Google AutoML",
            "birds/{a,b,c}.jpg",
            {
                "list.csv": "TRAIN,gs://BUCKET/birds/a.jpg,cat\nTEST,gs://BUCKET/birds/b.jpg,dog\n"
                "UNASSIGNED,gs://BUCKET/birds/c.jpg,dog\n"
            },
            {"train:cat": 1, "test:dog": 1, ":dog": 1},
        ),
        (
            "Another encoding",
            _IMAGES,
            {"list.csv": "path,label\na.jpg,Gr\u00fcn\nb.jpg,Wei\u00df\n".encode("cp1252")},
            {":Gr\u00fcn": 1, ":Wei\u00df": 1},
        ),
        (
            "Numbers of classes, and a table of their names",
            _IMAGES,
            {
                "list.csv": "path,label\na.jpg,0\nb.jpg,1\n",
                "classes.csv": "number,name\n0,cat\n1,dog\n",
            },
            _CAT_DOG,
        ),
        (
            "Text files with the names of the images of each split",
            _IMAGES,
            {
                "list.csv": "path,label\na.jpg,cat\nb.jpg,dog\nc.jpg,dog\n",
                "test_list.txt": "c.jpg\n",
            },
            {"train:cat": 1, "train:dog": 1, "test:dog": 1},
        ),
        (
            "A list for each split",
            "{train,valid,test}/{a,b}.jpg",
            {
                f"{split}/_classes.csv": "filename, cat, dog\na.jpg, 1, 0\nb.jpg, 0, 1\n"
                for split in ("train", "valid", "test")
            },
            {
                f"{split}:{label}": 1
                for split in ("train", "validation", "test")
                for label in ("cat", "dog")
            },
        ),
        (
            "A table with all pixels of an image in one cell",
            "",
            {
                "list.csv": "emotion,pixels,Usage\n0,7 7 7 7,Training\n1,8 8 8 8,Training\n"
                "1,9 9 9 9,PublicTest\n"
            },
            {"train:0": 1, "train:1": 1, "validation:1": 1},
        ),
        (
            "Folds",
            _IMAGES,
            {"list.csv": "path,label,fold\na.jpg,cat,2\nb.jpg,dog,3\nc.jpg,cat,0\n"},
            {"train:cat": 1, "train:dog": 1, "test:cat": 1},
        ),
        (
            "A file with the label beside each image",
            "x/{a,b}.jpg",
            {"x/a.cls": "cat", "x/b.cls": "dog"},
            _CAT_DOG,
        ),
    ],
)
def test_a_program_writes_a_list_that_is_read(tmp_path, monkeypatch, title, tree, files, counts):
    fill(tmp_path, tree)
    for name, text in files.items():
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    monkeypatch.chdir(tmp_path)
    exec(compile(_PROGRAMS[title], title, "exec"), {})
    scan = open_source(str(tmp_path / "labelled.csv")).scan()
    assert counted(scan) == counts and all(item.sha256 for item in scan.items)
