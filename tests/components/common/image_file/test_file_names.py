"""What is read from the names of files, which never depends on their endings."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgpipe.components.common.image_file.file_names import stem_and_ending
from imgpipe.components.example_gen.sources import SourceOptions, open_source

_STEMS = st.lists(
    st.from_regex(
        r"[a-zA-Z]{1,4}[-_. ]?[0-9]{1,3}(?:[-_.][0-9]{1,2}|_mask|_[a-z]{2})?", fullmatch=True
    ),
    min_size=6,
    max_size=12,
    unique_by=str.lower,
)
_IMAGE = b"\xff\xd8\xff\xe0" + bytes(range(64))


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
                str(where), SourceOptions(root=str(folder) if where == listed else "", **options)
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
