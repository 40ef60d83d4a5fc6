"""How findings are grouped and said, and which of them decide."""

import pytest

from imgpipe.components.common.image_row import FileFinding
from imgpipe.components.example_gen.notes import Notes
from imgpipe.components.image_filter.findings import joined, not_used, of_images, of_source, titles
from imgpipe.models.finding import make_finding
from tests.declared import made

PETS = {"cat": 60, "dog": 90}


def test_findings_in_files_are_grouped_with_the_worst_first_and_their_ways():
    blurred = [
        made(FileFinding, path=f"{n}.jpg", reason="blurry", score=0.1 * n, override="look; crop")
        for n in (3, 1, 2)
    ]
    dark = made(FileFinding, path="9.jpg", reason="low_information", override="look")
    first, second = of_images("warned", [dark, *blurred])
    assert (first["reason"], first["title"], first["count"]) == ("blurry", "blurred", 3)
    assert [one["path"] for one in first["examples"]] == ["1.jpg", "2.jpg", "3.jpg"]
    assert first["remedies"] == ["look", "crop"] and not first["decides"]
    assert second["title"] == "hardly anything to see", "words of people, not of the program"


def noted(*added):
    """Return the findings about what is added to notes: (reason, path, count)."""
    notes = Notes()
    for reason, path, count in added:
        notes.add(reason, path, count=count)
    return notes.findings()


def test_what_is_not_used_is_one_line():
    found = of_source(
        noted(
            ("skipped", "masks", 400),
            ("unused_column", "lesion_id", 1),
            ("no_image", "a/1.txt", 40),
            ("hidden", ".DS_Store", 1),
            ("hidden_file", "a/.pending-1.jpg", 1),
        ),
        {"a": 900, "b": 900},
    )
    assert not_used(found) == (
        "1 file whose name begins with a dot (a/.pending-1.jpg); "
        "40 files that are no images (a/1.txt); 400 skipped files (masks); 1 column (lesion_id)"
    )
    assert not_used(of_source(noted(("hidden", ".DS_Store", 1)), PETS)) == ""
    many = noted(*(("unused_column", f"c{n}", 1) for n in range(6)))
    assert not_used(of_source(many, PETS)) == "6 columns (c0, c1, c2, c3, 2 more)"


@pytest.mark.parametrize(
    ("reason", "count", "decides"),
    [
        ("skipped", 60, True),  # as many as a class has
        ("unlabelled_split", 75, True),
        ("unlabelled_file", 80, True),  # a third of all
        ("hidden_file", 60, True),
        ("skipped", 59, False),
        ("no_image", 60, True),  # whatever they are, in a class
        ("beside_images", 400, False),
        ("may_hold_images", 1, True),
        ("unreadable_folder", 1, True),
        ("outside_link", 1, True),
    ],
)
def test_left_out_images_decide_if_they_are_many(reason, count, decides):
    found = of_source(noted((reason, "x", count)), PETS)
    assert [one["decides"] for one in found] == [decides]
    assert bool(titles(found)) is decides
    if decides:
        assert titles(found) == [f"not used: {not_used(found)}"]


def test_a_finding_about_the_result_replaces_the_one_about_the_images():
    about_images = [make_finding("file_clues", "x"), make_finding("families", "y")]
    about_result = [make_finding("file_clues", "z", decides=True, title="format tells")]
    assert [one["sentence"] for one in joined(about_images, about_result)] == ["y", "z"]
    assert titles(about_result) == ["format tells"]
