"""Lists of files as CSV or JSON Lines: which are read, what they give, and why others are not."""

import json

import pytest

from imgpipe.components.example_gen.sources import open_source
from imgpipe.models.errors import ConfigError
from imgpipe.models.settings.data import DataSettings
from tests.components.example_gen.sources import followed_advice
from tests.components.example_gen.sources.trees import details, problems, remedies

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


def scanned(folder, text, name="list.csv", **options):
    (folder / name).write_text(text, "utf-8")
    return open_source(str(folder / name), DataSettings(**options)).scan()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("delimiter", [",", ";", "|", "\t", "jsonl"])
def test_a_list_in_any_unicode_and_with_any_usual_delimiter_is_read(folder, encoding, delimiter):
    kind = "jsonl" if delimiter == "jsonl" else "csv"
    source = open_source(write(folder, ROWS, kind, delimiter, encoding))
    scan = source.scan()
    assert [(i.path, i.label, i.split, i.group) for i in scan.items] == [
        ("x/1.jpg", "cat", "train", "ann"),
        ("x/2.jpg", "dog", "validation", "bob"),
        ("y/3.jpg", "dog", "test", None),
    ]
    assert scan.given_splits == ("train", "validation", "test") and not scan.notes
    assert all(source.read(item) == item.path.encode() for item in scan.items)


@pytest.mark.parametrize(
    ("name", "text", "expected", "options"),
    [
        ("list.csv", "was,img\ncat,x/1.jpg\ndog,x/2.jpg\n", "cat dog", ("img", "was")),
        ("list.csv", "cat,x/1.jpg\ndog,x/2.jpg\n", "cat dog", ("1", "0")),
        ("list.csv", "path,breed,sex\nx/1,pug,m\nx/2,cat,f\n", "pug cat", ("", "breed")),
        ("train.txt", "x/1.jpg 0\nx/2.jpg 1\ny/3.jpg 0\n", "0 1 0", ()),
        ("train.csv", "x/1.jpg 0\nx/2.jpg 1\ny/3.jpg 0\n", "0 1 0", ()),
        ("list.csv", "path,label\nx/1.jpg,0\nx/2.jpg,0.0\ny/3.jpg,1.0\n", "0 0 1", ()),
        ("list.jsonl", '{"path":"x/1","label":0}\n{"path":"x/2","label":1.0}\n', "0 1", ()),
        *(
            ("list.csv", f"{title},label\nx/1{suffix},cat\nx/2{suffix},dog\n", "cat dog", ())
            for title in ("image", "id", "Image_ID", "file")
            for suffix in ("", ".jpg")
        ),
        ("list.csv", "id,split,breed\nx/1,train,pug\nx/2,test,boxer\n", "pug boxer", ()),
        ("list.csv", "path,label\n['x/1.jpg'],cat\n['x/2.jpg'],dog\n", "cat dog", ()),
        ("list.csv", "path,label\nx\\1.jpg,a\n.\\x\\2.jpg,b\n./y/3.jpg,c\n", "a b c", ()),
    ],
)
def test_columns_are_found_by_settings_usual_names_and_cells(folder, name, text, expected, options):
    columns = dict(zip(("image_column", "label_column"), options, strict=False))
    scan = scanned(folder, text, name, **columns)
    assert [item.label for item in scan.items] == expected.split()
    assert all(item.sha256 for item in scan.items)


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
        {title: word, "path": row["path"], "label": row["label"]}
        for row, word in zip(ROWS, words, strict=True)
    ]
    said = rf"the column {title} names splits .*: call it split, .*{GUIDE}"
    with pytest.raises(ConfigError, match=said):
        open_source(write(folder, rows)).listing()
    named = [{"split" if key == title else key: cell for key, cell in row.items()} for row in rows]
    scan = open_source(write(folder, named)).listing()
    last = None if "UNASSIGNED" in words else "test"
    assert [item.split for item in scan.items] == ["train", "validation", last]


def test_words_for_an_empty_cell_are_no_label(folder):
    words = ["nan", "NaN", "None", "NA", "n/a", "NULL", "<NA>", "", "none", "cat"]
    rows = "".join(f"x/{n}.jpg,{word},nan,NA\n" for n, word in enumerate(words))
    scan = scanned(folder, f"path,label,split,group\n{rows}")
    assert scan.vocabulary == ("cat", "none") and len(scan.items) == len(words)
    assert not scan.groups() and not scan.given_splits


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
    assert details(scan)["y/3.jpg"] == "in row 4, row 7, row 8"


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
    inside = [str(folder / "x/1.jpg"), "x/2.jpg", "y/3.jpg"]
    labels = ["cat", "dog", *["cat"] * (1 + len(refused))]
    paths = zip([*inside, *refused], labels, strict=True)
    said = problems(write(folder, [{"path": p, "label": label} for p, label in paths]))
    assert [path for path, why in said.items() if not why] == ["x/1.jpg", "x/2.jpg", "y/3.jpg"]
    assert len(said) == 3 + len(refused)
    for row, (name, why) in enumerate(refused.values(), 5):
        assert why in said[f"row-{row:06d}/{name}"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"path": "1", "label": "a"}\n{"path"', "row 2: Expecting .* delimiter"),
        ('{"path": 1}\n["x"]\n', f"row 2: expected a JSON object, received list{GUIDE}"),
        ('{"label": "a"}', f"for the path; name .* are label; its first row is a{GUIDE}"),
        ("path,label\n1.jpg,a\n,b\n", f"row 3 has no path{GUIDE}"),
        ("path,label,split\nx/1,a,blue\nx/2,b,\n", "row 2: split 'blue'; expected train, val"),
        ("path,label\nx/1.jpg,a\nx/2.jpg,a\n", r"one class only \(a\)"),
        ("path,label,split\nx/1,a,val\nx/2,b,test\n", "no image for train; leave the split"),
        ("path,label\n1,a,\n2,b,c\n", f"Expected 2 fields in line 2, saw 3{GUIDE}"),
        ("path,breed,x\n1,a,3\n2,b,3\n", r"data\.label_column.* path, breed, x; .* is 1, a, 3\."),
        ("image; elm; oak\nx.jpg; 1.0; 0.0\n", rf"image, elm, oak; .* x\.jpg, 1\.0, 0\.0{GUIDE}"),
        ("path,label,fold\n1,a,test\n2,b,0\n3,b,1\n", r"fold names splits \(0, 1, test\)"),
        *(
            ("path,label\nx/1.jpg,Gr\u00fcn\n".encode(page), rf"UTF-8 .*byte 21.*{GUIDE}")
            for page in ("cp1250", "cp1252", "mac_roman")
        ),
        (None, "cannot be opened: No such file"),
    ],
)
def test_a_list_that_cannot_be_read_is_refused_in_words(folder, text, message):
    kind = "jsonl" if text is None or text[:1] == "{" else "csv"
    if text is not None:
        (folder / f"a.{kind}").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=message) as refused:
        open_source(str(folder / f"a.{kind}")).listing()
    assert not followed_advice.commands(refused.value)


def found(folder, files, names, **options):
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(b"x")
    rows = "".join(f"{name},{'ab'[n % 2]}\n" for n, name in enumerate(names))
    scan = scanned(folder, f"id,label\n{rows}", **options)
    return {item.path: item.label for item in scan.items if item.sha256}


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a.JPG", "b.webp", "c.jpeg"], ["gone", "a.jpg", "b", "c.jpg"]),
        (["\u00e9t\u00e9/1.tiff", "\u00fc.jpg"], ["\u00e9t\u00e9/1.TIF", "\u00fc"]),
        (["elk.7.jpg", "elk.8.Png", "owl.7.jpg"], ["elk.7", "elk.8", "owl.7"]),
        (["y.jpg", "y.png", "z.png"], ["y", "z", "gone.png"]),
    ],
)
def test_names_are_found_without_regard_to_their_endings(tmp_path, files, names):
    assert set(found(tmp_path, files, names)) == set(files) - {"y.png"}


@pytest.mark.parametrize(
    ("files", "names", "roots"),
    [
        (["p/8.jpg", "p/9.jpg"], ["8", "9"], ["p"]),
        (["p/q/owl/8.jpg", "p/q/tit/9.jpg"], ["owl/8.jpg", "tit/9.jpg"], ["p/q"]),
        (["p/8.jpg", "p/9.jpg", "q/8.jpg", "q/9.jpg"], ["8.jpg", "9.jpg"], ["p", "q"]),
        (["p/i/8.jpg", "p/i/9.jpg"], ["./i/8.jpg", "./i/9.jpg"], ["p"]),
        (["p/i/8.jpg", "p/i/9.jpg"], ["i\\8.jpg", "i\\9.jpg"], ["p"]),
        (["p/8.jpg", "q/9.jpg"], ["8", "9"], []),
        (["8.jpg", "9.jpg"], ["/mnt/other/8.jpg", "/mnt/other/9.jpg"], []),
        (["8.jpg", "9.jpg"], ["C:\\me\\8.jpg", "C:\\me\\9.jpg"], []),
        (["i/000000.jpg", "i/000001.jpg", "i/000002.jpg"], ["1", "2"], []),
        (["i/a.jpg", "i/b.jpg"], ["/data/1f3a9c2e-a.jpg", "/data/0b3a9c2e-b.jpg"], []),
        (["i/a.jpg", "i/b.jpg"], ["/d/?d=i%2Fa.jpg", "/d/?d=i%2Fb.jpg"], []),
    ],
)
def test_a_list_of_files_elsewhere_is_refused_with_their_folders(tmp_path, files, names, roots):
    said = r"none of its 2 files exists below .* or at data\.root, .*lists\.md has short"
    with pytest.raises(ConfigError, match=said) as refused:
        found(tmp_path, files, names)
    sets = [options for _, options in followed_advice.commands(refused.value)]
    assert sets == [{"root": str(tmp_path / root)} for root in roots]
    for scan in followed_advice.scans(refused.value):
        assert scan.counts() == {"a": 1, "b": 1} and not scan.notes


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["elm", "oak", "elm|moss"], r"several labels to an image: elm\|moss\. Expected one label"),
        (["elm;wet", "oak;wet"], "elm;wet, oak;wet"),
        (["elm", "oak", '"elm, oak"'], "elm, oak"),
        (['"clear, road"', '"clear, sea"', '"fog, road"'], "clear, road"),
        (["clear/road", "clear/sea", "fog/road"], r"image: clear/road\."),
        (["clear & road", "clear & sea", "fog & road", "fog & sea"], "clear & road, clear & sea"),
        (["clear - road", "clear:sea", "fog>road", "fog – sea"], "clear - road, clear:sea, fog"),
        (["晴、道", "晴，海", "霧、道", "霧，海"], "晴、道, 晴，海"),
        (["صاف، طريق", "صاف، بحر", "ضباب، طريق"], "صاف، طريق"),
        (["लाल कुत्ता", "लाल बिल्ली", "काला कुत्ता", "काला बिल्ली"], None),
        (["t-shirt", "x-ray", "t-ray", "x-shirt"], None),
        (["animal/cat", "animal/dog", "plant/rose"], None),
        (["black cat", "black dog", "white cat", "white dog"], None),
        (["water bird", "bird", "water"], None),
        (["3", "7 3", "11 7 2"], "11 7 2, 7 3"),
        (["elm", "\"['oak', 'moss']\""], r"\['oak', 'moss'\]"),
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
    (folder / "list.csv").write_text(f"path,label\nx/1.jpg,\n{rows}")
    source = open_source(str(folder / "list.csv"))
    if said is None:
        assert len(source.listing().vocabulary) == len(labels)
        return
    with pytest.raises(ConfigError, match=said):
        source.listing()
    named = tuple(label.strip('"') for label in labels)
    open_source(str(folder / "list.csv"), DataSettings(classes=named)).listing()


@pytest.mark.parametrize(
    ("labels", "doubtful"),
    [
        (["elm", "oak", "fir", "elm oak", "oak fir"], ["elm oak", "oak fir"]),
        (["salt and pepper", "salt", "pepper"], ["salt and pepper"]),
        (["Hund und Katze", "Hund", "Katze"], ["Hund und Katze"]),
        (["water_bird", "bird", "water"], ["water_bird"]),
        (["hot dog", "dog"], []),
    ],
)
def test_a_label_made_of_the_names_of_other_classes_is_noted(folder, labels, doubtful):
    rows = "".join(f"x/{n}.jpg,{label}\n" for n, label in enumerate(labels))
    scan = scanned(folder, f"path,label\n{rows}")
    assert list(details(scan, "doubtful_label")) == doubtful
    assert set(scan.vocabulary) == set(labels)


def test_nested_cells_of_json_lines_are_shown_as_json(folder):
    text = '{"path": "x/1.jpg", "label": {"name": "cat"}}\n'
    with pytest.raises(ConfigError, match=r'row 1 has a table in a cell: \{"name": "cat"\}'):
        scanned(folder, text, "list.jsonl")
    text = '{"id": {"file": "x/1.jpg"}, "kind": ["cat"], "area": 3}\n'
    with pytest.raises(ConfigError, match=r'first row is \{"file": "x/1\.jpg"\}, \["cat"\], 3'):
        scanned(folder, text, "list.jsonl")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("train.lst", "x/1.jpg\tcat\nx/2.jpg\tdog\n"),
        (
            "rows.manifest",
            '{"path": "x/1.jpg", "label": "cat"}\n{"path": "x/2.jpg", "label": "dog"}',
        ),
        ("rows.json", '{"path": "x/1.jpg", "label": "cat"}\n{"path": "x/2.jpg", "label": "dog"}'),
    ],
)
def test_a_list_with_another_ending_is_named_with_the_command_that_reads_it(folder, name, text):
    (folder / name).write_text(text)
    with pytest.raises(ConfigError, match="It names images; to read it as a list") as refused:
        open_source(str(folder / name)).listing()
    [scan] = followed_advice.scans(refused.value)
    assert scan.counts() == {"cat": 1, "dog": 1}


def test_a_column_that_nothing_reads_is_named_with_what_it_may_be(folder):
    rows = "x/1.jpg,cat,L0\nx/2.jpg,cat,L1\ny/3.jpg,dog,L0\nz.jpg,dog,L1\n"
    scan = scanned(folder, f"path,label,lesion\n{rows}")
    assert details(scan, "unused_column") == {"lesion": "2 values (L0, L1)"}
    [way] = remedies(scan, "unused_column")
    settings = ("group_column", "label_column")
    assert all(f"--set data.{setting}=lesion; if it" in way for setting in settings)
    scan = scanned(folder, f"path,label,lesion\n{rows}", group_column="lesion")
    assert scan.groups() == 2 and not details(scan, "unused_column")


def test_texts_beside_a_list_that_name_images_are_named(folder):
    (folder / "test_list.txt").write_text("x/1.jpg\n")
    (folder / "README.txt").write_text("Birds, and where they were seen\n")
    scan = open_source(write(folder, ROWS)).listing()
    assert details(scan, "unread_list") == {"test_list.txt": "may hold labels or splits"}
    assert "docs/how-to/lists.md" in scan.notes[0]["remedies"][0]


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
    assert {(item.path, item.split) for item in scan.items} == {
        (f"{word}/{word}{n}.jpg", split)
        for word, split in {"train": "train", "valid": "validation", "test": "test"}.items()
        for n in range(2)
    }
    assert all(item.sha256 for item in scan.items)
    (tmp_path / place.format("test")).write_text("path,label\ntrain/train0.jpg,cat\n")
    if "/" not in place:
        problems = [item.problem for item in open_source(f"manifest:{tmp_path}").scan().items]
        said = "two_splits: listed as 'test' (row 2 of test.csv) and 'train' (row 2 of train.csv)"
        assert said in problems
    with pytest.raises(ConfigError, match="is a folder; expected a list for each split"):
        open_source(f"manifest:{tmp_path / 'train'}").listing()
