"""Lists of files as CSV or JSON Lines.

Columns are found by usual names, given names or positions, and contradictory rows are named.
"""

from __future__ import annotations

import json

import pytest

from imgpipe.components.example_gen.sources import SourceOptions, open_source
from imgpipe.models.errors import ConfigError
from tests.components.example_gen.sources import followed_advice
from tests.components.example_gen.sources.trees import details, noted, remedies

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
    assert details(scan)["y/3.jpg"] == "in rows 4, 7, 8"


def test_listed_paths_that_lead_out_of_the_folder_are_unreadable_items(folder):
    inside = str(folder / "x/1.jpg")
    bad = ["../secret", "/etc/passwd", "x/../../b", "https://example.com/a.jpg", ".."]
    rows = [dict(ROWS[0], path=inside), *ROWS[1:], *(dict(ROWS[0], path=path) for path in bad)]
    scan = open_source(write(folder, rows)).scan()
    by_path = {i.path: i.sha256 for i in scan.items}
    assert by_path["x/1.jpg"] and len(by_path) == 8
    said = details(scan, "unreadable_file")
    assert sorted(said) == [
        *("row-000005/secret", "row-000006/passwd", "row-000007/b", "row-000008/a.jpg"),
        "row-000009/unnamed",
    ]
    assert "'/etc/passwd' leads out of" in said["row-000006/passwd"]
    assert "set data.root" in said["row-000005/secret"]
    assert "is a URL; only files are read" in said["row-000008/a.jpg"]


def test_a_list_without_a_single_file_is_refused_with_its_root(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("lists")
    refused = dict(ROWS[0], path="../secret")
    expected = (
        rf"none of its [34] files exists below '{other}' \(first: 'x/1\.jpg'\)\. Paths start at "
        r"the folder of the list, or at data\.root, the folder of the images"
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
        (
            "a.jsonl",
            '{"label": "a"}',
            "no column for the path. Its columns are label; its first row is a. Name the column",
        ),
        ("a.csv", "path,label\n1.jpg,a\n,b\n", "row 3: no path"),
        ("a.csv", "path,label,split\n1,a,blue\n2,b,\n", "row 2: split 'blue'; expected train, val"),
        ("a.csv", "path,label\n1,a\n2,a\n", r"one class only \(a\)"),
        ("a.csv", "path,label,split\n1,a,val\n2,b,test\n", "no image for train; leave the split"),
        (
            "a.csv",
            "path,label\n1,a,\n2,b,c\n",
            "has 3 cells in row 2, and 2 in the rows above: a cell .* quotation marks",
        ),
        (
            "a.csv",
            "path,breed,x\n1,a,3\n2,b,3\n",
            r"path, breed, x; its first row is 1, a, 3\. Name .* label by data\.label_column; if",
        ),
        (
            "a.csv",
            b"path,label\n1,a\n\xff,b\n",
            r"is not UTF-8 text \(byte 15\): write it again .*docs/how-to/lists\.md has short",
        ),
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


def found(folder, files, text, **options):
    """Write files and a list beside them; return {listed file: label} and the scan."""
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(b"x")
    (folder / "list.csv").write_text(text, "utf-8")
    scan = open_source(str(folder / "list.csv"), SourceOptions(**options)).scan()
    return {item.path: item.label for item in scan.items if item.sha256}, scan


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a.JPG", "b.webp", "c.jpeg"], ["gone", "a.jpg", "b", "c.jpg"]),
        (["elk.7.jpg", "elk.8.Png", "owl.7.jpg"], ["elk.7", "elk.8", "owl.7"]),
        (["e\u0301te\u0301/1.tiff", "u\u0308.jpg"], ["\u00e9t\u00e9/1.TIF", "\u00fc"]),
        (["y.jpg", "y.png", "z.png"], ["y", "z", "gone.png"]),
    ],
)
def test_names_are_found_without_regard_to_suffix_case_and_accents(tmp_path, files, names):
    rows = "".join(f"{name},{'ab'[n % 2]}\n" for n, name in enumerate(names))
    paths, _ = found(tmp_path, files, f"id,label\n{rows}")
    assert set(paths) == set(files) - {"y.png"}


@pytest.mark.parametrize(
    ("below", "above"),
    [
        ("", "C:\\Users\\me\\birds\\"),
        ("", "/mnt/other/birds/"),
        ("photos/", "/kaggle/input/birds/"),
        ("photos/", ""),
        ("photos/all/", "gs://bucket/birds/"),
        ("", "../birds/"),
    ],
)
def test_files_of_another_machine_or_in_a_folder_beside_the_list_are_found(tmp_path, below, above):
    names = [f"{label}/{n}.jpg" for label in ("owl", "tit") for n in range(3)]
    rows = "".join(f"{above}{name},{name[:3]}\n" for name in names)
    rows = rows.replace("/", "\\") if "\\" in above else rows
    paths, scan = found(tmp_path, [below + name for name in names], f"path,label\n{rows}")
    assert paths == {below + name: name[:3] for name in names}
    assert noted(scan) == [("found_elsewhere", below[:-1] or ".")] and scan.notes[0]["count"] == 6


def test_a_file_of_another_class_or_in_two_folders_is_not_taken(tmp_path):
    text = "path,label\n/mnt/emu/1.jpg,emu\n/mnt/owl/1.jpg,owl\n"
    paths, scan = found(tmp_path, ["tit/1.jpg", "owl/1.jpg"], text)
    assert paths == {"owl/1.jpg": "owl"}
    assert [*details(scan, "unreadable_file")] == ["row-000002/1.jpg"]
    text = "path,label\nemu/1.jpg,emu\nowl/1.jpg,owl\n"
    assert found(tmp_path, ["sorted_out/emu/1.jpg"], text)[0] == {"owl/1.jpg": "owl"}
    with pytest.raises(ConfigError, match=r"several folders .* \(first: p/8\.jpg, q/8\.jpg\)"):
        found(tmp_path, ["p/8.jpg", "q/8.jpg"], "id,label\n8,a\n9,b\n")


def test_the_only_column_left_is_that_of_the_labels(folder):
    (folder / "list.csv").write_text("id,split,breed\nx/1,train,pug\nx/2,test,boxer\n")
    assert open_source(str(folder / "list.csv")).listing().vocabulary == ("boxer", "pug")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("delimiter", [",", ";", "|", "\t"])
def test_a_list_in_the_unicode_and_with_the_delimiters_of_programs_is_read(
    folder, encoding, delimiter
):
    lines = "".join(f"{row['path']}{delimiter}{row['label']}\n" for row in ROWS)
    (folder / "list.csv").write_text(f"path{delimiter}label\n{lines}", encoding)
    assert open_source(str(folder / "list.csv")).listing().counts() == {"cat": 1, "dog": 2}


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["elm", "oak", "elm|moss"], r"several labels to an image: elm\|moss\. Expected one label"),
        (["elm;wet", "oak;wet"], "elm;wet, oak;wet"),
        (["elm", "oak", '"elm, oak"'], "elm, oak"),
        (["elm", "oak", "fir", "elm oak", "oak fir"], "elm oak, oak fir"),
        (["3", "7 3", "11 7 2"], "11 7 2, 7 3"),
        (["elm", "\"['oak', 'moss']\""], r"\['oak', 'moss'\]"),
        (["water bird", "bird", "water"], None),
        (["['water bird']", "[bird]"], None),
        (['"smith,jo"', '"smith,al"'], None),
        (["red car", "blue car", "red bus", "blue bus"], None),
        (['"tench, Tinca tinca"', '"maillot, tank suit"', "maillot"], None),
        (["+", "|", ";", '","'], None),
        (['"0,5"', '"1,5"'], None),
    ],
)
def test_several_labels_an_image_are_refused_and_names_of_classes_are_not(folder, labels, said):
    rows = "".join(f"x/{n}.jpg,{label}\n" for n, label in enumerate(labels))
    (folder / "list.csv").write_text(f"path,label\n{rows}")
    source = open_source(str(folder / "list.csv"))
    if said is None:
        assert len(source.listing().vocabulary) == len(labels)
        return
    with pytest.raises(ConfigError, match=said):
        source.listing()
    named = tuple(label.strip('"') for label in labels)
    open_source(str(folder / "list.csv"), SourceOptions(classes=named)).listing()


def test_one_hot_columns_are_refused_with_the_first_row_and_the_page(folder):
    rows = "x/1.jpg; 1.0; 0.0\nx/2.jpg; 0.0; 1.0\n"
    (folder / "list.csv").write_text(f"image; elm; oak\n{rows}", "utf-16")
    said = r"columns are image, elm, oak; its first row is x/1\.jpg, 1\.0, 0\.0\. .*lists\.md has"
    with pytest.raises(ConfigError, match=said) as refused:
        open_source(str(folder / "list.csv")).listing()
    assert not followed_advice.commands(refused.value)


@pytest.mark.parametrize("encoding", ["cp1250", "cp1252", "mac_roman"])
def test_no_other_encoding_is_guessed(folder, encoding):
    rows = "x/1.jpg,Gr\u00fcn\nx/2.jpg,Wei\u00df\n"
    (folder / "list.csv").write_bytes(f"path,label\n{rows}".encode(encoding))
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        open_source(str(folder / "list.csv")).listing()


def test_words_for_an_empty_cell_are_no_label(folder):
    words = ["nan", "NaN", "None", "NA", "n/a", "NULL", "<NA>", "", "none", "cat"]
    rows = "".join(f"x/{n}.jpg,{word},nan,NA\n" for n, word in enumerate(words))
    (folder / "list.csv").write_text(f"path,label,split,group\n{rows}")
    scan = open_source(str(folder / "list.csv")).listing()
    assert scan.vocabulary == ("cat", "none") and len(scan.items) == len(words)
    assert not scan.groups() and not scan.given_splits


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ("dataset", ("train", "val", "test")),
        ("Usage", ("Training", "PublicTest", "PrivateTest")),
        ("subset", ("TRAIN", "VALIDATION", "TEST")),
    ],
)
def test_a_column_whose_cells_name_splits_is_the_split(folder, title, words):
    rows = [
        {"path": row["path"], "label": row["label"], title: w}
        for row, w in zip(ROWS, words, strict=True)
    ]
    scan = open_source(write(folder, rows)).listing()
    assert [item.split for item in scan.items] == ["train", "validation", "test"]
    assert not scan.notes


def test_a_list_of_google_automl_has_no_header_and_names_the_split_first(folder):
    lines = [
        f"{word},gs://bucket/{row['path']},{row['label']}"
        for word, row in zip(("TRAIN", "UNASSIGNED", "TEST"), ROWS, strict=True)
    ]
    (folder / "import.csv").write_text("\n".join(lines))
    scan = open_source(str(folder / "import.csv")).listing()
    assert [(i.path, i.label, i.split) for i in scan.items] == [
        ("x/1.jpg", "cat", "train"),
        ("x/2.jpg", "dog", None),
        ("y/3.jpg", "dog", "test"),
    ]


def test_a_column_that_nothing_reads_is_named_with_what_it_may_be(folder):
    cells = {"lesion": "L0 L0 L1 L1 L0 L1", "is_test": "0 0 0 1 0 1", "fold": "0 1 2 0 2 1"}
    files = ["x/1.jpg,cat"] * 4 + ["x/2.jpg,dog", "y/3.jpg,dog"]
    ways = {}
    for column, values in cells.items():
        rows = [f"{file},{value}" for file, value in zip(files, values.split(), strict=True)]
        (folder / f"{column}.csv").write_text("\n".join([f"path,label,{column}", *rows]))
        scan = open_source(str(folder / f"{column}.csv")).listing()
        assert [*details(scan, "unused_column")] == [column]
        ways[column] = remedies(scan, "unused_column")
    assert ways["lesion"][0].startswith(
        "if it says which images belong together: --set data.group_"
    )
    assert "if it is the class: --set data.label_column=lesion" in ways["lesion"]
    held_out = "if it says which images are held out: write train, validation or test into each"
    for column in cells:
        assert any(way.startswith(held_out) for way in ways[column])
    (folder / "list.csv").write_text((folder / "lesion.csv").read_text())
    scan = open_source(str(folder / "list.csv"), SourceOptions(group_column="lesion")).listing()
    assert scan.groups() == 2
    assert "lesion" not in details(scan, "unused_column")


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["images/a\u202fPM.jpg", "images/b\u00a0PM.jpg"], ["images/a PM.jpg", "images/b PM.jpg"]),
        (["images/a\u202fPM.jpg", "images/b PM.jpg"], ["a PM.jpg", "b PM.jpg"]),
        (["images/a.jpg", "images/b.jpg"], ["['images/a.jpg']", "['images/b.jpg']"]),
    ],
)
def test_names_that_tools_have_changed_are_found(tmp_path, files, names):
    rows = "".join(f"{name},{'xy'[n]}\n" for n, name in enumerate(names))
    assert set(found(tmp_path, files, f"path,label\n{rows}")[0]) == set(files)


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["images/000000.jpg", "images/000001.jpg", "images/000002.jpg"], ["1", "2"]),
        (["images/a.jpg", "images/b.jpg"], ["/data/1f3a9c2e-a.jpg", "/data/0b3a9c2e-b.jpg"]),
        (["images/a.jpg", "images/b.jpg"], ["/d/?d=images%2Fa.jpg", "/d/?d=images%2Fb.jpg"]),
    ],
)
def test_names_that_may_be_those_of_others_are_refused_with_the_page(tmp_path, files, names):
    rows = "".join(f"{name},{'xy'[n]}\n" for n, name in enumerate(names))
    with pytest.raises(ConfigError, match=r"none of its 2 files exists .*lists\.md has short"):
        found(tmp_path, files, f"path,label\n{rows}")


@pytest.mark.parametrize("name", ["train.txt", "train.csv"])
def test_a_text_of_names_and_numbers_is_a_list(folder, name):
    (folder / name).write_text("".join(f"{row['path']} {n % 2}\n" for n, row in enumerate(ROWS)))
    assert open_source(str(folder / name)).listing().counts() == {"0": 2, "1": 1}


def test_texts_beside_a_list_that_name_images_are_named(folder):
    (folder / "test_list.txt").write_text("x/1.jpg\n")
    (folder / "README.txt").write_text("Birds, and where they were seen\n")
    scan = open_source(write(folder, ROWS)).listing()
    detail = "names images: it may hold labels or splits"
    assert details(scan, "unread_list") == {"test_list.txt": detail}
    assert "docs/how-to/lists.md" in scan.notes[0]["remedies"][0]


def test_a_column_of_folds_and_one_split_is_refused(folder):
    rows = [dict(ROWS[n % 3], split="", fold=fold) for n, fold in enumerate(["test", 0, 1])]
    with pytest.raises(ConfigError, match="column fold names the split test in some rows, and has"):
        open_source(write(folder, rows)).listing()
    for row in rows:
        row["fold"] = row["fold"] or "train"
    rows[2]["fold"] = "train"
    assert open_source(write(folder, rows)).listing().given_splits == ("train", "test")


@pytest.mark.parametrize("place", ["{}.csv", "{}/_classes.csv"])
def test_a_list_for_each_split_is_one_source(tmp_path, place):
    for split in ("train", "valid", "test"):
        list_file = tmp_path / place.format(split)
        images = list_file.parent / "" if "/" in place else tmp_path / split
        images.mkdir(exist_ok=True)
        rows = "path,label\n"
        for n, label in enumerate(("cat", "dog")):
            (images / f"{split}{n}.jpg").write_bytes(b"x")
            path = f"{split}{n}.jpg" if "/" in place else f"{split}/{split}{n}.jpg"
            rows += f"{path},{label}\n"
        list_file.write_text(rows)
    scan = open_source(f"manifest:{tmp_path}").scan()
    assert scan.given_splits == ("train", "validation", "test")
    assert {(item.path, item.split) for item in scan.items} == {
        (f"{word}/{word}{n}.jpg", split)
        for word, split in {"train": "train", "valid": "validation", "test": "test"}.items()
        for n in range(2)
    }
    assert all(item.sha256 for item in scan.items)
    (tmp_path / place.format("test")).write_text("path,label\ntrain/train0.jpg,cat\n")
    if "/" not in place:
        problems = [item.problem for item in open_source(f"manifest:{tmp_path}").scan().items]
        assert (
            "two_splits: listed as 'test' (row test.csv 2) and 'train' (row train.csv 2)"
            in problems
        )
    with pytest.raises(ConfigError, match="is a folder; expected a list for each split"):
        open_source(f"manifest:{tmp_path / 'train'}").listing()


def test_a_list_without_a_known_label_shows_its_columns_and_its_first_row(folder):
    (folder / "list.csv").write_text(
        "path,breed,sex\nx/1.jpg,pug,m\nx/2.jpg,pug,f\ny/3.jpg,cat,f\n"
    )
    columns = "no column for the label. Its columns are path, breed, sex; its first row is x/1"
    with pytest.raises(ConfigError, match=columns):
        open_source(str(folder / "list.csv")).listing()
    named = SourceOptions(label_column="breed")
    assert open_source(str(folder / "list.csv"), named).listing().counts() == {"cat": 1, "pug": 2}


def test_a_list_whose_files_are_in_several_folders_is_read_from_one_of_them(tmp_path):
    rows = "id,label\n8,a\n9,b\n"
    said = r"in several folders below .* \(first: p/8\.jpg, q/8\.jpg\)\. .* or at data\.root"
    with pytest.raises(ConfigError, match=said):
        found(tmp_path, ["p/8.jpg", "p/9.jpg", "q/8.jpg", "q/9.jpg"], rows)
    assert found(tmp_path, [], rows, root=str(tmp_path / "q"))[0] == {"8.jpg": "a", "9.jpg": "b"}
