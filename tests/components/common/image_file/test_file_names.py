"""What a file is: by its name, which never depends on its ending alone, and by its first bytes."""

import io
import random
import re
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgpipe.components.common.image_file.file_names import joined, kind_of, stem_and_ending
from imgpipe.components.example_gen.sources import open_source
from imgpipe.models.errors import ConfigError
from imgpipe.models.settings.data import DataSettings
from tests.components.example_gen.sources.trees import counted, fill, noted
from tests.images import encoded, noise

_STEMS = st.lists(
    st.from_regex(
        r"[a-zA-Z]{1,4}[-_. ]?[0-9]{1,3}(?:[-_.][0-9]{1,2}|_mask|_[a-z]{2})?", fullmatch=True
    ),
    min_size=6,
    max_size=12,
    unique_by=str.lower,
)
_IMAGE = b"\xff\xd8\xff\xe0" + bytes(range(64))

_NOISE = random.Random(1).randbytes(400)


@pytest.mark.parametrize(
    ("path", "stem", "ending"),
    [
        ("cat/IMG_1.JPG", "IMG_1", ".jpg"),
        ("film2_frame003", "film2_frame003", ""),
        ("elk.7", "elk.7", ""),
        ("IMG.2023.jpeg", "IMG.2023", ".jpeg"),
        ("x.jpg.json", "x", ".json"),
        ("x.tar.gz", "x", ".gz"),
        ("leaf.a", "leaf.a", ""),
        (".jpg", ".jpg", ""),
    ],
)
def test_a_name_is_taken_apart(path, stem, ending):
    assert stem_and_ending(path) == (stem, ending)


def read(folder, stems, endings, **options):
    """Write images with these names into two classes, and return what is read of each stem."""
    for number, stem in enumerate(stems):
        file = folder / "cd"[number % 2] / f"{stem}{endings[number % len(endings)]}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_IMAGE)
    rows = "".join(f"{'cd'[n % 2]}/{stem},{'xy'[n % 2]}\n" for n, stem in enumerate(stems))
    listed = folder.with_suffix(".csv")
    listed.write_text(f"path,label\n{rows}")
    answers = {}
    for where in (folder, listed):
        try:
            scan = open_source(
                str(where), DataSettings(root=str(folder) if where == listed else "", **options)
            ).listing()
        except Exception as error:
            answers[where.suffix] = str(error).split(": ", 1)[0].replace(str(folder), "")
        else:
            assert not any(item.locator.startswith("!") for item in scan.items)
            answers[where.suffix] = {
                stem_and_ending(i.path)[0]: (i.label, i.split, i.group) for i in scan.items
            }
    return answers


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    _STEMS,
    st.lists(st.sampled_from([".jpg", ".PNG", ".tif", ".webp", ""]), min_size=1, max_size=3),
    st.sampled_from(
        [{}, {"label_pattern": r"([a-zA-Z])[^/]*$"}, {"group_pattern": r"([a-zA-Z])[^/]*$"}]
    ),
)
def test_nothing_that_is_read_from_a_name_depends_on_its_ending(stems, endings, options):
    with tempfile.TemporaryDirectory() as place:
        expected = read(Path(place) / "a", stems, [".jpg"], **options)
        assert read(Path(place) / "b", stems, endings, **options) == expected


def packed():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a", "b")
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "name", "kind"),
    [
        *(
            (encoded(noise(), kind), "1", "image")
            for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "PPM")
        ),
        (encoded(noise(), "JPEG"), "x.txt", "image"),
        (bytes(128) + b"DICM" + _NOISE, "IM0001", "image"),
        (b"\0\0\0\x1cftypheic" + _NOISE, "IMG_1", "image"),
        (b"II*\0" + _NOISE, "x.nef", "camera_raw"),
        (packed(), "x", "archive"),
        (packed(), "x.docx", "document"),
        (packed(), "x.xlsx", "table"),
        (packed(), "x.npz", "other"),
        (b"path,label\n", "x.csv", "table"),
        (b"path,label\n", "x", "text"),
        (b"<annotation></annotation>", "n02085620_10", "text"),
        (b"\0\0\0\x20ftypisom" + _NOISE, "x", "film"),
        (b"%PDF-1.7", "x", "document"),
        (b"XSym\n0012\n", "x", "link"),
        (b"", "x", "empty"),
        (b"", "x.jpg.cloudf", "empty"),
        (b"", "x.txt", "text"),
        (bytes(512), "x", "zeros"),
        (b"\x80\x04\x95" + _NOISE, "data_batch_1", "other"),
        (b"\0\0\x08\x03" + _NOISE, "train-images-idx3-ubyte", "other"),
    ],
)
def test_a_file_is_what_its_first_bytes_say_and_only_then_its_ending(content, name, kind):
    assert kind_of(content[:512], name) == kind


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (["x.zip", "x.z01", "x.z02"], "x came in parts .* zip -s 0 x.zip --out"),
        (["B.ZIP", "B.z01"], "B came in parts"),
        (["a b.zip.001", "a b.zip.002"], r"cat 'a b.zip'\?\* > 'a b.zip'"),
        (["x.tar.gz.aa", "x.tar.gz.ab"], r"cat x.tar.gz\?\* > x.tar.gz"),
        (["x.part1.rar", "x.part2.rar"], "x came in parts .*; unpack the first, which takes"),
        (["x.rar", "x.r00", "x.r01"], "x came in parts .*; unpack the first, which takes"),
        (["x-001.zip", "x-002.zip"], r"parts \(x-001.zip, x-002.zip\); unpack all of them into"),
    ],
)
def test_parts_of_an_archive_are_named_with_how_they_are_joined(parts, said):
    others = ["x-001.tgz.txt", "y-002.zip", "y.tar.gz", "y.zip", "y.jpg", "IMG.001", "IMG.002"]
    found = joined([*parts, *others])
    assert sorted(found) == sorted(parts)
    assert all(re.search(said, sentence) for sentence in found.values())


def test_what_may_hold_images_is_named_with_what_to_do(tmp_path):
    folder = fill(tmp_path / "set", "{cat,dog}/{1,2}.jpg notes/{a,b}.txt")
    for name in ("bird.zip", "dog/more.zip"):
        (tmp_path / "set" / name).write_bytes(packed())
        (tmp_path / f"set/{name[0]}.mp4").write_bytes(b"\0\0\0\x20ftypisom" + _NOISE)
    (tmp_path / "set/cat/3.jpg.cloudf").write_bytes(b"")
    scan = open_source(folder).listing()
    assert counted(scan) == {":cat": 2, ":dog": 2}
    notes = {note["reason"]: note for note in scan.notes}
    assert notes["archive_file"]["sentence"] == (
        "2 archives (bird.zip, dog/more.zip), which may hold images"
    )
    assert notes["archive_file"]["remedies"] == ["unpack each into a folder of its name"]
    assert notes["placeholder_file"]["sentence"] == (
        "1 file in place of an image (cat/3.jpg.cloudf), which may not have been downloaded"
    )
    assert notes["archive_file"]["decides"] and notes["placeholder_file"]["decides"]
    films = notes["film_beside"]
    assert films["sentence"] == "2 films beside images" and not films["decides"]
    assert ("folder_without_images", "notes") in noted(scan)
    assert sum(note["count"] for note in scan.notes) == 2 + 1 + 2 + 2  # all files but the images


def test_label_files_beside_images_are_no_images_whatever_they_are_called(tmp_path):
    folder = fill(tmp_path, "Images/{pug,cat}/n_{1,2,3}.jpg")
    for name in ("pug/n_1", "pug/n_2", "cat/n_3"):
        (tmp_path / "Annotation" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "Annotation" / name).write_text("<annotation></annotation>")
    scan = open_source(folder).listing()
    assert counted(scan) == {":pug": 3, ":cat": 3}
    assert ("folder_without_images", "Annotation") in noted(scan)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            ["data_batch_1", "data_batch_2"],
            r"found 2 files \(data_b.*\), none of which is an image: .* and tfds:cifar10",
        ),
        (
            ["x.zip.001", "x.zip.002", "y-001.zip", "y-002.zip"],
            r"4 parts of archives .*cat x\.zip\?\* > x\.zip; y came in parts .* into one folder",
        ),
        (["1.jpg.cloud", "2.jpg.cloud"], "2 files in place of images .*; download it again"),
    ],
)
def test_a_source_without_images_says_what_its_files_are(tmp_path, files, said):
    for name in files:
        (tmp_path / name).write_bytes(b"\x80\x04\x95" + _NOISE)
    with pytest.raises(ConfigError, match=said):
        open_source(str(tmp_path)).listing()


@pytest.mark.parametrize("name", ["x.zip", "x.z01", "y.zip.001", "z-001.zip"])
def test_a_part_of_an_archive_is_no_source(tmp_path, name):
    for part in ("x.zip", "x.z01", "y.zip.001", "y.zip.002", "z-001.zip", "z-002.zip"):
        (tmp_path / part).write_bytes(packed())
    with pytest.raises(ConfigError, match=r"is not whole: .* came in parts"):
        open_source(str(tmp_path / name)).listing()
