"""What format, size, quality and camera of files tell of their classes, and when it is said."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest

from imgpipe.components.common.image_file.content import Content
from imgpipe.components.common.image_record import ImageRecord
from imgpipe.components.image_filter.file_clues import MOST_IMAGES, clues_of, sentence
from imgpipe.components.image_filter.judge.image_row import ImageRow
from imgpipe.components.image_filter.summary_findings import of_file_clues

#: A colour JPEG as a phone stores it.
USUAL = Content(
    width=400,
    height=300,
    channels=3,
    format="JPEG",
    mode="RGB",
    jpeg_tables=1200,
    subsampling="4:2:0",
    camera="Phone 8",
    figures={"colour": 0.5},
)
PNG = dataclasses.replace(USUAL, format="PNG", jpeg_tables=0, subsampling="", camera="")
LARGE = dataclasses.replace(USUAL, width=1600, height=1200)


def images(label, count, content=USUAL, byte_size=0, **values):
    """Return the records of `count` images of a class."""
    return [
        ImageRecord(
            f"{label}/{number}",
            label,
            split="train",
            image_hash=hashlib.sha256(f"{label}{number}{content}".encode()).hexdigest(),
            byte_size=byte_size,
            content=content,
            **values,
        )
        for number in range(count)
    ]


def asked(*records):
    """Return what is found in lists of records."""
    return clues_of([ImageRow.of(record) for some in records for record in some])


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("format", dataclasses.replace(USUAL, format="WEBP")),
        ("colour mode", dataclasses.replace(USUAL, mode="L", channels=1)),
        ("colour mode", dataclasses.replace(USUAL, figures={"colour": 0.0})),
        ("size", dataclasses.replace(USUAL, width=300, height=400)),
        ("JPEG quality", dataclasses.replace(USUAL, jpeg_tables=300)),
        ("JPEG quality", dataclasses.replace(USUAL, subsampling="4:4:4")),
        ("camera", dataclasses.replace(USUAL, camera="Phone 9")),
    ],
)
def test_one_property_that_differs_is_named(name, other):
    clues = asked(images("cat", 30), images("dog", 30, other))
    assert (clues["right"], clues["images"], clues["properties"]) == (60, 60, [name])
    assert sentence(clues) == f"{name} alone tells 100 % of the images apart"
    [said] = of_file_clues(clues)
    assert said["decides"] and said["title"] == sentence(clues)
    assert said["remedies"][0].startswith("if each class comes from a source of its own")


def test_every_property_that_tells_enough_is_named():
    clues = asked(images("covid", 30, PNG), images("normal", 30, LARGE))
    assert clues["properties"] == ["format", "size", "JPEG quality", "camera"]
    assert sentence(clues) == (
        "format, size, JPEG quality and camera alone tell 100 % of the images apart"
    )


def test_the_size_in_bytes_is_what_the_image_shows_and_no_clue():
    drawings = images("cat", 30, byte_size=9_000), images("dog", 30, byte_size=90_000)
    assert asked(*drawings)["properties"] == []


def test_properties_that_tell_enough_only_together_are_named():
    webp = dataclasses.replace(USUAL, format="WEBP")
    large = dataclasses.replace(webp, width=1600, height=1200)
    clues = asked(images("a", 30), images("b", 30, webp), images("c", 30, large))
    assert sentence(clues) == "format and size alone tell 100 % of the images apart"


def test_a_class_from_another_source_is_named_among_others_of_one_source():
    clues = asked(images("covid", 40, PNG), images("normal", 40), images("pneumonia", 40))
    assert clues["classes"] == [{"name": "covid", "images": 40, "right": 40}]
    assert sentence(clues) == (
        "format, JPEG quality and camera alone tell class covid from all others"
    )
    several = [
        images(name, 20, dataclasses.replace(USUAL, width=100 + 50 * place))
        for place, name in enumerate("abcde")
    ]
    clues = asked(*several, *(images(name, 100) for name in "xyz"))
    assert sentence(clues) == "size alone tells the classes a, b, c and 2 more from all others"


@pytest.mark.parametrize("counts", [(60, 60), (190, 10), (30, 30, 30, 30)])
def test_files_of_one_source_tell_nothing(counts):
    clues = asked(*(images(str(place), count) for place, count in enumerate(counts)))
    assert clues["properties"] == []
    assert sentence(clues) == ""
    assert sentence(clues, accuracy=max(counts) / sum(counts) + 0.01) == ""
    assert of_file_clues(clues) == []


def test_a_rare_class_counts_as_much_as_others():
    clues = asked(images("common", 285), images("rare", 15, PNG))
    assert sentence(clues).endswith("alone tell 100 % of the images apart")
    # With the same accuracy, .95, the files tell nothing that the most frequent class does not.
    assert sentence(asked(images("common", 285), images("rare", 15))) == ""


def test_the_accuracy_of_the_model_says_how_much_is_near():
    partly = [*images("dog", 80, PNG), *images("dog", 20)]
    clues = asked(images("cat", 100), partly)
    assert clues["right"] / clues["images"] == 0.9
    assert sentence(clues) == sentence(clues, accuracy=0.99) == ""
    assert "alone tell 90 %" in sentence(clues, accuracy=0.9)


def test_few_images_are_no_evidence():
    assert asked(images("cat", 4), images("dog", 4, PNG)) is None
    assert sentence(None) == ""
    assert asked(images("cat", 40)) is None, "one class"
    assert sentence(asked(images("cat", 6), images("dog", 6, PNG))) == ""
    assert sentence(asked(images("cat", 15), images("dog", 15, PNG))).endswith(
        "100 % of the images apart"
    )


def test_a_family_is_in_one_fold_and_counts_once():
    """A class that is one family is unknown to the fold that answers for it."""
    one = images("dog", 40, PNG, group="person \udcff")  # as in a name that is no UTF-8
    assert sentence(asked(images("cat", 40), one)) == ""
    pairs = [
        image
        for person in range(3)
        for image in images(f"dog{person}", 13, PNG, group=f"person {person}")
    ]
    dogs = [dataclasses.replace(image, label="dog") for image in pairs]
    cats = [dataclasses.replace(image, label="cat", group=f"cats {place % 3}")
            for place, image in enumerate(images("cat", 39))]  # fmt: skip
    clues = asked(cats, dogs)
    assert clues["right"] == 78
    assert clues["ci95"][0] < 0.65, "six families"
    assert sentence(clues) == ""


def test_images_of_test_are_not_asked_about():
    held_out = images("dog", 40, PNG)
    held_out = [dataclasses.replace(image, split="test") for image in held_out]
    clues = asked(images("cat", 20), images("dog", 20), held_out)
    assert clues["images"] == 40
    assert sentence(clues) == ""


def test_a_sample_is_bounded_and_does_not_depend_on_the_order():
    records = [*images("cat", MOST_IMAGES + 100), *images("dog", MOST_IMAGES + 100, PNG)]
    clues = asked(records)
    assert clues == asked(records[::-1])
    assert clues["images"] == clues["right"] == MOST_IMAGES
