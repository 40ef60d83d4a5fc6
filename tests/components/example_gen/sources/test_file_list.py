"""Lists of files as CSV or JSON Lines.

Columns are found by usual names, given names or positions, and contradictory rows are named.
"""

from __future__ import annotations

import json

import pytest

from imgpipe.components.example_gen.sources import SourceOptions, open_source
from imgpipe.models.errors import ConfigError

ROWS = [
    {"path": "x/1.jpg", "label": "cat", "split": "training", "group": "ann"},
    {"path": "x/2.jpg", "label": "dog", "split": "val", "group": "bob"},
    {"path": "y/3.jpg", "label": "dog", "split": "Test", "group": ""},
]


@pytest.fixture
def folder(tmp_path):
    """Return a folder with the files that ROWS list."""
    for row in ROWS:
        (tmp_path / row["path"]).parent.mkdir(exist_ok=True)
        (tmp_path / row["path"]).write_bytes(row["path"].encode())
    return tmp_path


def write(folder, rows, kind="csv", delimiter=","):
    """Write rows as a CSV or JSON Lines file into the folder and return its path."""
    file = folder / f"list.{kind}"
    if kind == "jsonl":
        file.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", "utf-8")
    else:
        lines = [list(rows[0]), *(row.values() for row in rows)]
        file.write_text(
            "\n".join(delimiter.join(f'"{cell}"' for cell in line) for line in lines), "utf-8-sig"
        )
    return str(file)


@pytest.mark.parametrize(("kind", "delimiter"), [("csv", ","), ("csv", ";"), ("jsonl", "")])
def test_csv_and_json_lines_give_the_same_items(folder, kind, delimiter):
    source = open_source(write(folder, ROWS, kind, delimiter))
    scan = source.scan()
    assert [(i.path, i.label, i.split, i.group) for i in scan.items] == [
        ("x/1.jpg", "cat", "train", "ann"),
        ("x/2.jpg", "dog", "validation", "bob"),
        ("y/3.jpg", "dog", "test", None),
    ]
    assert scan.given_splits == ("train", "validation", "test") and not scan.notes
    assert all(source.read(item) == item.path.encode() for item in scan.items)


def test_columns_are_given_by_name_or_by_position_without_a_header(folder):
    rows = [{"was": row["label"], "img": row["path"]} for row in ROWS]
    named = SourceOptions(image_column="img", label_column="was")
    assert open_source(write(folder, rows), named).listing().counts() == {"cat": 1, "dog": 2}
    bare = folder / "bare.csv"
    bare.write_text("cat,x/1.jpg\ndog,x/2.jpg\n")
    placed = SourceOptions(image_column="1", label_column="0")
    scan = open_source(str(bare), placed).listing()
    assert [(i.path, i.label) for i in scan.items] == [("x/1.jpg", "cat"), ("x/2.jpg", "dog")]
    with pytest.raises(ConfigError, match="has no column 'img'; found path, label, split, group"):
        open_source(write(folder, ROWS), named).listing()


def test_rows_that_contradict_each_other_are_problems_by_name(folder):
    more = [
        dict(ROWS[0], label="dog"),
        dict(ROWS[1], split="train"),
        dict(ROWS[2], group="eve"),
        dict(ROWS[2], group="eve"),
    ]
    scan = open_source(write(folder, ROWS + more)).listing()
    problems = {i.path: i.problem for i in scan.items}
    assert problems == {
        "x/1.jpg": "two_labels: listed as 'cat' (row 2) and 'dog' (row 5)",
        "x/2.jpg": "two_splits: listed as 'validation' (row 3) and 'train' (row 6)",
        "y/3.jpg": "",
    }
    assert [(i.label, i.group) for i in scan.items] == [
        (None, "ann"),
        ("dog", "bob"),
        ("dog", "eve"),
    ]
    assert [n.detail for n in scan.notes if n.path == "y/3.jpg"] == ["in rows 4, 7, 8"]


def test_listed_paths_that_lead_out_of_the_folder_are_unreadable_items(folder):
    inside = str(folder / "x/1.jpg")
    bad = ["../secret", "/etc/passwd", "x/../../b", "https://example.com/a.jpg"]
    rows = [dict(ROWS[0], path=inside), *ROWS[1:], *(dict(ROWS[0], path=path) for path in bad)]
    scan = open_source(write(folder, rows)).scan()
    by_path = {i.path: i.sha256 for i in scan.items}
    assert by_path["x/1.jpg"] and len(by_path) == 7
    said = {n.path: n.detail for n in scan.notes if n.kind == "unreadable_file"}
    assert sorted(said) == [
        *("row-000005/secret", "row-000006/passwd", "row-000007/b", "row-000008/a.jpg")
    ]
    assert "'/etc/passwd' leads out of" in said["row-000006/passwd"]
    assert "set data.root" in said["row-000005/secret"]
    assert "is a URL; only files are read" in said["row-000008/a.jpg"]


def test_a_list_without_a_single_file_is_refused_with_its_root(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("lists")
    refused = dict(ROWS[0], path="../secret")
    expected = (
        rf"none of its 3 files exists below '{other}' \(first: 'x/1\.jpg'\)\. Paths start at the "
        r"folder of the list, or at data\.root\. Use: --set data\.root=FOLDER"
    )
    with pytest.raises(ConfigError, match=expected):
        open_source(write(other, [*ROWS, refused])).listing()
    (other / "x").write_bytes(b"a file in the place of a folder")
    with pytest.raises(ConfigError, match=expected):
        open_source(write(other, ROWS)).listing()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"path": "1", "label": "a"}\n{"path"', "row 2: not JSON"),
        ("a.jsonl", '["x"]\n', "row 1: expected an object with path and label"),
        ("a.jsonl", '{"label": "a"}', "no column for the path; found label; name it"),
        ("a.csv", "path,label\n1.jpg,a\n,b\n", "row 3: no path"),
        ("a.csv", "path,label,split\n1,a,blue\n2,b,\n", "row 2: split 'blue'; expected train, val"),
        ("a.csv", "path,label\n1,a\n2,a\n", r"one class only \(a\)"),
        ("a.csv", "path,label,split\n1,a,val\n2,b,test\n", "no image for train; leave the split"),
        (
            "a.csv",
            "path,label\n1,a,\n2,b,c\n",
            "a CSV file: .* Expected 2 fields in line 2, saw 3",
        ),
        ("a.csv", "path,breed\n1,a\n2,b\n", "label; found path, breed; name it by data.label_col"),
        ("a.csv", b"path,label\n1,a\n\xff,b\n", "is not UTF-8 text"),
        ("gone.jsonl", None, "cannot be read: No such file"),
    ],
)
def test_a_list_that_cannot_be_read_names_its_row(tmp_path, name, text, message):
    file = tmp_path / name
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=message):
        open_source(str(file)).listing()


def test_whole_numbers_are_the_same_labels_in_all_lists(folder):
    expected = {"0": 2, "1": 1}
    (folder / "list.csv").write_text("path,label\nx/1.jpg,0\nx/2.jpg,0.0\ny/3.jpg,1.0\n")
    assert open_source(str(folder / "list.csv")).listing().counts() == expected
    rows = [{"path": row["path"], "label": n} for row, n in zip(ROWS, (0, 0.0, 1), strict=True)]
    assert open_source(write(folder, rows, "jsonl")).listing().counts() == expected


@pytest.mark.parametrize("title", ["image", "id", "Image_ID", "file"])
@pytest.mark.parametrize("suffix", ["", ".jpg"])
def test_other_names_of_the_path_are_recognised_with_and_without_the_suffix(folder, title, suffix):
    (folder / "list.csv").write_text(f"{title},label\nx/1{suffix},cat\nx/2{suffix},dog\n")
    scan = open_source(str(folder / "list.csv")).scan()
    assert [item.path for item in scan.items] == ["x/1.jpg", "x/2.jpg"] and not scan.notes
