"""Lists of files as CSV or JSON Lines: which are read, what they give, and why others are not."""

import json

import pytest

from imgpipe.components.example_gen.sources import read_source
from imgpipe.models.errors import ConfigError
from imgpipe.models.settings.data import DataSettings
from tests.components.example_gen.sources.trees import details, problems
from tests.images import encoded, noise

GUIDE = r"\. docs/how-to/lists\.md has short pandas programs"
ROWS = [
    {"path": "x/1.jpg", "label": "cat", "split": "training", "group": "ann"},
    {"path": "x/2.jpg", "label": "dog", "split": "val", "group": "bob"},
    {"path": "y/3.jpg", "label": "dog", "split": "Test", "group": ""},
]


@pytest.fixture
def folder(tmp_path):
    for row in ROWS:
        (tmp_path / row["path"]).parent.mkdir(exist_ok=True)
        (tmp_path / row["path"]).write_bytes(row["path"].encode())
    return tmp_path


def write(folder, rows, kind="csv", delimiter=",", encoding="utf-8"):
    file = folder / f"list.{kind}"
    table = [list(rows[0]), *(row.values() for row in rows)]
    lines = [delimiter.join(f'"{cell}"' for cell in row) for row in table]
    text = "\n".join(map(json.dumps, rows)) + "\n\n" if kind == "jsonl" else "\n".join(lines)
    file.write_text(text, encoding)
    return str(file)


def listed(folder, text, name="list.csv", **options):
    (folder / name).write_text(text, "utf-8")
    return read_source(str(folder / name), DataSettings(**options)).hashed()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "jsonl"])
def test_a_list_with_any_usual_delimiter_is_read(folder, encoding, delimiter):
    if delimiter == "jsonl":
        images = read_source(write(folder, ROWS, "jsonl", encoding="utf-8")).hashed()
    else:
        images = read_source(write(folder, ROWS, "csv", delimiter, encoding)).hashed()
    assert [(i.path, i.label, i.split, i.group) for i in images.items] == [
        ("x/1.jpg", "cat", "train", "ann"),
        ("x/2.jpg", "dog", "validation", "bob"),
        ("y/3.jpg", "dog", "test", None),
    ]
    assert images.given_splits == ("train", "validation", "test") and not images.findings
    assert all(images.reader.read(item) == item.path.encode() for item in images.items)


@pytest.mark.parametrize(
    ("name", "text", "expected", "options"),
    [
        ("list.csv", "was,img\ncat,x/1.jpg\ndog,x/2.jpg\n", "cat dog", ("img", "was")),
        ("list.csv", "cat,x/1.jpg\ndog,x/2.jpg\n", "cat dog", ("1", "0")),
        ("list.csv", "path,breed,sex\nx/1,pug,m\nx/2,cat,f\n", "pug cat", ("", "breed")),
        ("list.csv", "Name,kind\nx/1.jpg,pug\nx/2.jpg,cat\n", "pug cat", ("", "kind")),
        ("list.csv", "path,Group,x\nx/1,pug,1\nx/2,cat,2\n", "pug cat", ("", "Group")),
        ("list.csv", "x/1.jpg,pug\nx/2.jpg,cat\n", "pug cat", ()),
        ("train.txt", "x/1.jpg 0\nx/2.jpg 1\ny/3.jpg 0\n", "0 1 0", ()),
        ("train.txt", "x/1 big_dog\nx/2 a cat\n", "big_dog a~cat", ()),
        ("list.csv", "path,label\nx/1.jpg,0\nx/2.jpg,0.0\ny/3.jpg,1.0\n", "0 0 1", ()),
        ("list.jsonl", '{"path":"x/1","label":0}\n{"path":"x/2","label":1.0}\n', "0 1", ()),
        *(
            ("list.csv", f"{title},label\nx/1{suffix},cat\nx/2{suffix},dog\n", "cat dog", ())
            for title in ("image", "id", "Image_ID", "file")
            for suffix in ("", ".jpg")
        ),
        ("list.csv", "path,label\n['x/1.jpg'],cat\n['x/2.jpg'],dog\n", "cat dog", ()),
        ("list.csv", "path,label\nx\\1.jpg,a\n.\\x\\2.jpg,b\n./y/3.jpg,c\n", "a b c", ()),
        ("list.csv", "path,label,n\nx/1,2,ann\nx/2,7,bob\ny/3,7,eve\n", "2 7 7", ()),
    ],
)
def test_columns_are_found_by_settings_usual_names_and_files(folder, name, text, expected, options):
    columns = dict(zip(("image_column", "label_column"), options, strict=False))
    images = listed(folder, text, name, **columns)
    assert [item.label.replace(" ", "~") for item in images.items] == expected.split()
    assert all(item.sha256 for item in images.items)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,x,y,dx\nx/1,3,4,a\nx/2,5,6,b\n", r"usual name of labels; the others, .* y \(2\)"),
        (
            "path,label,kind\nx/1,1,a\nx/2,2,b\ny/3,3,b\n",
            r"column label has numbers, and another .* are kind \(2\)\. Name it by data.label_col",
        ),
        ("path,who,dx\nx/1,ann,a\nx/2,bob,a\ny/3,eve,b\n", r"are dx \(2\), who \(3\)\. Name it"),
    ],
)
def test_a_column_that_is_not_surely_that_of_the_labels_is_asked_for(folder, text, message):
    with pytest.raises(ConfigError, match=message):
        listed(folder, text)


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ("dataset", ("train", "val", "test")),
        ("Usage", ("Training", "PublicTest", "PrivateTest")),
        ("subset", ("TRAIN", "VALIDATION", "UNASSIGNED")),
    ],
)
def test_a_column_that_names_splits_and_is_not_called_so_is_refused(folder, title, words):
    rows = [
        {title: word, "path": row["path"], "label": "dog"}
        for row, word in zip(ROWS, words, strict=True)
    ]
    rows.append({title: words[0], "path": "x/4.jpg", "label": "cat"})
    said = rf"the column {title} names splits .*: call it split, .*{GUIDE}"
    with pytest.raises(ConfigError, match=said):
        read_source(write(folder, rows))
    named = [{"split" if key == title else key: cell for key, cell in row.items()} for row in rows]
    images = read_source(write(folder, named))
    last = None if "UNASSIGNED" in words else "test"
    assert [item.split for item in images.items] == ["train", "validation", "train", last]


def test_words_for_an_empty_cell_are_no_label_unless_they_are_classes(folder):
    words = ["nan", "NaN", "None", "None", "NA", "n/a", "NULL", "<NA>", "", "no", "cat"]
    rows = "".join(f"x/{n}.jpg,{word},nan,NA\n" for n, word in enumerate(words))
    text = f"path,label,split,group\n{rows}"
    images = listed(folder, text)
    assert images.classes == ("cat", "no") and len(images.items) == len(words)
    assert not images.groups() and not images.given_splits
    said = details(images, "empty_label")
    assert said["None"] == "2 rows say 'None', which is read as no label" and "" not in said
    images = listed(folder, text, classes=("None", "cat", "no"))
    assert images.counts() == {"None": 2, "cat": 1, "no": 1}


def test_a_split_without_any_label_is_left_out(folder):
    text = "path,label,split\nx/1,a,train\nx/2,b,train\ny/3,,test\n"
    images = listed(folder, text)
    assert images.given_splits == ("train",) and [*details(images, "unlabelled_split")] == [
        "y/3.jpg"
    ]


def test_rows_that_contradict_each_other_are_problems_by_name(folder):
    more = [
        dict(ROWS[0], label="dog"),
        dict(ROWS[1], split="train"),
        dict(ROWS[2], group="eve"),
        dict(ROWS[2], group="eve"),
    ]
    images = read_source(write(folder, ROWS + more))
    assert {i.path: i.problem for i in images.items} == {
        "x/1.jpg": ("two_labels", "listed as 'cat' (row 2) and 'dog' (row 5)"),
        "x/2.jpg": ("two_splits", "listed as 'validation' (row 3) and 'train' (row 6)"),
        "y/3.jpg": None,
    }
    assert [(i.label, i.group) for i in images.items] == [
        (None, "ann"),
        ("dog", "bob"),
        ("dog", "eve"),
    ]
    assert details(images, "listed_twice")["y/3.jpg"] == "in row 4, row 7, row 8"


def test_listed_paths_that_lead_out_of_the_folder_are_unreadable_items(folder):
    refused = {
        "../secret": ("secret", "data.root is the folder of all files"),
        "/etc/passwd": ("passwd", "'/etc/passwd' is no path in"),
        "x/../../b": ("b", "is no path in"),
        "https://example.com/a.jpg": ("a.jpg", "'https://example.com/a.jpg' is no path in"),
        "..": ("unnamed", "is no path in"),
        "C:\\x\\a.p": ("a.p", r"'C:\\x\\a.p' is no path in"),
        "/gone/a.p": ("a.p", "'/gone/a.p' is no path in"),
    }
    inside = [str(folder / "x/1.jpg"), "x/2.jpg", "y/3.jpg", "gone.jpg"]
    labels = ["cat", "dog", *["cat"] * (2 + len(refused))]
    paths = zip([*inside, *refused], labels, strict=True)
    said = problems(write(folder, [{"path": p, "label": label} for p, label in paths]))
    assert [path for path, why in said.items() if not why] == ["x/1.jpg", "x/2.jpg", "y/3.jpg"]
    assert said["gone.jpg"] == f"{folder}/gone.jpg: No such file or directory"
    assert len(said) == 4 + len(refused)
    for row, (name, why) in enumerate(refused.values(), 6):
        assert why in said[f"row-{row:06d}/{name}"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"path": "1", "label": "a"}\n{"path"', "row 2: Expecting .* delimiter"),
        ('{"path": 1}\n["x"]\n', f"row 2: expected a JSON object, received list{GUIDE}"),
        ('{"label": "a"}', f"no column has a usual name of paths.* its first row is a{GUIDE}"),
        ("path,label\n1.jpg,a\n,b\n", f"row 3 has no path{GUIDE}"),
        ("path,label,split\nx/1,a,blue\nx/2,b,\n", "row 2: split 'blue'; expected train, val"),
        ("path,label\nx/1.jpg,a\nx/2.jpg,a\n", r"one class, a \(2 images\)\..* add rows with an"),
        ("path,label,split\nx/1,a,val\nx/2,b,test\n", "no image for train; leave the split"),
        ("path,label\n1,a,\n2,b,c\n", f"row 2 has 3 cells, and the first row 2{GUIDE}"),
        ("path,breed,x\nx/1,a,3\nx/2,b,3\n", r"data\.label_column.* path, breed, x; .* is x/1, a"),
        ("image; elm; oak\nx.jpg; 1.0; 0.0\n", rf"image, elm, oak; .* x\.jpg, 1\.0, 0\.0{GUIDE}"),
        ("path,label,fold\nx/1,a,test\nx/2,b,0\n3,b,1\n", r"fold names splits \(0, 1, test\)"),
        *(
            ("path,label\nx/1.jpg,Gr\u00fcn\n".encode(page), rf"UTF-8 .*byte 21.*{GUIDE}")
            for page in ("cp1250", "cp1252", "mac_roman")
        ),
        ("", "it has no row"),
        ("path,label\n", r"it has no row below its header\. Its columns are path, label"),
        (None, "does not exist"),
    ],
)
def test_a_list_that_cannot_be_read_is_refused_in_words(folder, text, message):
    kind = "jsonl" if text is not None and text[:1] == "{" else "csv"
    if text is not None:
        (folder / f"a.{kind}").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=message):
        read_source(str(folder / f"a.{kind}"))


def found(folder, files, names, **options):
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(b"x")
    rows = "".join(f"{name},{'ab'[n % 2]}\n" for n, name in enumerate(names))
    images = listed(folder, f"id,label\n{rows}", **options)
    return {item.path: item.label for item in images.items if item.sha256}


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a.JPG", "b.webp", "c.jpeg"], ["gone", "a.jpg", "b", "c.jpg"]),
        (["\u00e9t\u00e9/1.tiff", "\u00fc.jpg"], ["\u00e9t\u00e9/1.TIF", "\u00fc"]),
        (["elk.7.jpg", "elk.8.Png", "owl.7.jpg"], ["elk.7", "elk.8", "owl.7"]),
    ],
)
def test_names_are_found_without_regard_to_their_endings(tmp_path, files, names):
    assert set(found(tmp_path, files, names)) == set(files)


def test_a_name_without_ending_is_that_of_the_largest_image(tmp_path):
    """Neither of a label beside it, nor of a preview."""
    files = {"1.png": b"x" * 9, "1.json": b"{}" * 99, "1.jpg": b"x", "2": encoded(noise(), "PNG")}
    for name, content in {**files, "2.npy": b"\x93NUMPY"}.items():
        (tmp_path / name).write_bytes(content)
    assert set(found(tmp_path, [], ["1", "2"])) == {"1.png", "2"}


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["p/8.jpg", "p/9.jpg"], ["8", "9"]),
        (["8.jpg", "9.jpg"], ["/mnt/other/8.jpg", "/mnt/other/9.jpg"]),
        (["8.jpg", "9.jpg"], ["C:\\me\\8.jpg", "C:\\me\\9.jpg"]),
        (["i/000000.jpg", "i/000001.jpg"], ["1", "2"]),
    ],
)
def test_a_list_of_files_elsewhere_is_refused_naming_their_folder(tmp_path, files, names):
    said = r"none of its 2 files exists below .* or at data\.root, .*lists\.md has short"
    with pytest.raises(ConfigError, match=said):
        found(tmp_path, files, names)
    with pytest.raises(ConfigError, match=r"data\.root: expected the folder of the images"):
        found(tmp_path, files, names, root=str(tmp_path / "gone"))
    if names[0] == "8":
        here = found(tmp_path, files, names, root=str(tmp_path / "p"))
        assert here == {"8.jpg": "a", "9.jpg": "b"}


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["elm", "oak", "elm|moss"], r"several labels to an image: elm\|moss\. Expected one label"),
        (["elm;wet", "oak;wet"], "elm;wet, oak;wet"),
        (["elm", "\"['oak', 'moss']\""], r"\['oak', 'moss'\]"),
        (["elm", '"[1 2]"'], r"\[1 2\]"),
        (["animal/cat", "animal/dog", "plant/rose"], None),
        (["black cat", "water bird", "bird", "t-shirt"], None),
        (["['water bird']", "[bird]"], None),
        (['"smith,jo"', '"smith,al"'], None),
        (["+", "|", ";", '","'], None),
        (['"0,5"', '"1,5"'], None),
    ],
)
def test_several_labels_an_image_are_refused_and_names_of_classes_are_not(folder, labels, said):
    rows = "".join(f"x/{n}.jpg,{label}\n" for n, label in enumerate(labels))
    (folder / "list.csv").write_text(f"path,label\nx/1.jpg,\n{rows}")
    if said is None:
        assert len(read_source(str(folder / "list.csv")).classes) == len(labels)
        return
    with pytest.raises(ConfigError, match=said):
        read_source(str(folder / "list.csv"))
    named = tuple(label.strip('"') for label in labels)
    read_source(str(folder / "list.csv"), DataSettings(classes=named))


def test_a_column_that_nothing_reads_is_named_with_what_it_may_be(folder):
    rows = "x/1.jpg,cat,L0\nx/2.jpg,cat,L1\ny/3.jpg,dog,L0\nz.jpg,dog,L1\n"
    images = listed(folder, f"path,label,lesion\n{rows}")
    (finding,) = (f for f in images.findings if f["reason"] == "unused_column")
    assert details(images, "unused_column") == {"lesion": "2 values (L0, L1)"}
    settings = ("group_column", "label_column")
    assert all(f"--set data.{s}=lesion; if it" in finding["remedies"][0] for s in settings)
    images = listed(folder, f"path,label,lesion\n{rows}", group_column="lesion")
    assert images.groups() == 2 and not details(images, "unused_column")


def test_other_tables_beside_a_list_are_named(folder):
    for name in ("test_list.txt", "more.xlsx", ".hidden.csv"):
        (folder / name).write_text("x/1.jpg\n")
    images = read_source(write(folder, ROWS))
    assert [*details(images, "unused_table")] == ["more.xlsx", "test_list.txt"]
