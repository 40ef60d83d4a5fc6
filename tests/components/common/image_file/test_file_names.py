"""What a file is: by its name, which never depends on its ending alone, and by its first bytes."""

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgpipe.components.common.image_file.file_names import (
    begins_as_image,
    may_hold_images,
    stem_and_ending,
)
from imgpipe.components.example_gen.sources import read_source
from imgpipe.models.settings.data import DataSettings
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
            scan = read_source(
                str(where), DataSettings(root=str(folder) if where == listed else "", **options)
            )
        except Exception as error:
            answers[where.suffix] = str(error).split(": ", 1)[0].replace(str(folder), "")
        else:
            assert not any(item.problem for item in scan.items)
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


@pytest.mark.parametrize(
    ("content", "is_image"),
    [
        *((encoded(noise(), kind), True) for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "PPM")),
        (b"\0\0\0\x1cftypavif" + _NOISE, True),
        (b"PK\x03\x04" + _NOISE, False),
        (b"path,label\n", False),
        (b"\0\0\0\x20ftypisom" + _NOISE, False),
        (b"", False),
        (bytes(512), False),
        (b"\x80\x04\x95" + _NOISE, False),
        (b"\0\0\x08\x03" + _NOISE, False),
    ],
)
def test_a_file_that_is_not_called_an_image_is_what_its_first_bytes_say(content, is_image):
    assert begins_as_image(content[:512]) == is_image


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, True) for name in ("x.zip", "x.tar.gz", "x.zip.001", "x.z01", "x.part1.rar")),
        *((name, True) for name in (".IMG_1.HEIC.icloud", "x.jpg.cloudf")),
        *((name, False) for name in ("x.jpg", "x.jpg.json", "x.foo", "IMG.001", "README")),
    ],
)
def test_what_may_hold_or_stand_for_images_is_known_by_its_name(name, expected):
    assert may_hold_images(name) == expected
