"""What format, size, quality and camera of files tell of their classes, and when it is said."""

import dataclasses
import hashlib

import pytest

from imgpipe.components.common.image_file.content import Content
from imgpipe.components.image_filter import file_clues
from imgpipe.components.image_filter.file_clues import clues_of, sentence
from tests import image_tables

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
)
PNG = dataclasses.replace(USUAL, format="PNG", jpeg_tables=0, subsampling="", camera="")
LARGE = dataclasses.replace(USUAL, width=1600, height=1200)


def images(label, count, content=USUAL, byte_size=0, **values):
    return [
        image_tables.row(
            f"{label}/{number}",
            label,
            image_hash=digest,
            **dataclasses.asdict(content) | {"split": "train", "byte_size": byte_size} | values,
        )
        for number in range(count)
        for digest in [hashlib.sha256(f"{label}{number}{content}".encode()).hexdigest()]
    ]


def asked(*records):
    return clues_of(image_tables.table(record for some in records for record in some))


def of_sizes(names, count):
    """Return lists of images of classes each of which has a size of its own."""
    sizes = [dataclasses.replace(USUAL, width=100 + 50 * place) for place in range(len(names))]
    return [images(name, count, size) for name, size in zip(names, sizes, strict=True)]


WEBP = dataclasses.replace(USUAL, format="WEBP")
ALL = "{} alone tell{} 100 % of the images apart"
OF_CAMERA = ALL.format("format, JPEG quality and camera", "")


@pytest.mark.parametrize(
    ("records", "said"),
    [
        *(
            ([images("cat", 30), images("dog", 30, dataclasses.replace(USUAL, **other))], told)
            for other, told in (
                ({"format": "WEBP"}, ALL.format("format", "s")),
                ({"mode": "L", "channels": 1}, ALL.format("colour mode", "s")),
                ({"is_grey": True}, ALL.format("colour mode", "s")),
                ({"width": 300, "height": 400}, ALL.format("size", "s")),
                ({"jpeg_tables": 300}, ALL.format("JPEG quality", "s")),
                ({"subsampling": "4:4:4"}, ALL.format("JPEG quality", "s")),
                ({"camera": "Phone 9"}, ALL.format("camera", "s")),
                ({}, ""),
            )
        ),
        (
            [images("covid", 30, PNG), images("normal", 30, LARGE)],
            ALL.format("format, size, JPEG quality and camera", ""),
        ),
        (
            [images("covid", 40, PNG), images("normal", 40), images("pneumonia", 40)],
            "format, JPEG quality and camera alone tell class covid from all others",
        ),
        (
            [*of_sizes("abcde", 20), *(images(name, 100) for name in "xyz")],
            "size alone tells the classes a, b, c and 2 more from all others",
        ),
        ([images("common", 285), images("rare", 15, PNG)], OF_CAMERA),
        ([images("common", 285), images("rare", 15)], ""),
        ([images(str(place), 30) for place in range(4)], ""),
        # What the image shows is no clue: drawings are packed smaller.
        ([images("cat", 30, byte_size=9_000), images("dog", 30, byte_size=90_000)], ""),
        ([images("cat", 100), [*images("dog", 80, PNG), *images("dog", 20)]], ""),
        ([images("cat", 4), images("dog", 4, PNG)], ""),
        ([images("cat", 6), images("dog", 6, PNG)], ""),
        ([images("cat", 15), images("dog", 15, PNG)], OF_CAMERA),
        ([images("cat", 40)], ""),
        # A class that is one family is unknown to the fold that answers for it.
        ([images("cat", 40), images("dog", 40, PNG, family="person")], ""),
        # Six families count as six.
        (
            [
                images(label, 13, content, family=f"{label} {person}")
                for label, content in (("cat", USUAL), ("dog", PNG))
                for person in range(3)
            ],
            "",
        ),
        # No decision uses images of test.
        (
            [
                *(images("cat", 20), images("dog", 20)),
                images("dog", 40, PNG, split="test"),
            ],
            "",
        ),
    ],
)
def test_files_that_tell_the_classes_apart_are_said(records, said):
    assert sentence(asked(*records)) == said


def test_a_sample_is_bounded_and_does_not_depend_on_the_order(monkeypatch):
    monkeypatch.setattr(file_clues, "MOST_IMAGES", 200)
    records = [*images("cat", 300), *images("dog", 300, PNG)]
    clues = asked(records)
    assert clues == asked(records[::-1])
    assert clues["images"] == clues["right"] == 200
