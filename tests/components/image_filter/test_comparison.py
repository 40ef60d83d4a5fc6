"""The comparison of all images, and the table that holds what was found."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest

from imgpipe.components.common import row_files
from imgpipe.components.common.answer_table import AnswerTable, most_probable
from imgpipe.components.common.image_file.pixels import ALL_BYTES, GREY_BYTES, GREYS, MEASUREMENTS
from imgpipe.components.common.image_row import ImageRow
from imgpipe.components.common.row_files import ImageColumns
from imgpipe.components.image_filter import comparison, image_table
from imgpipe.models.settings.data import JudgeSettings
from imgpipe.models.settings.given import Facts, Given
from imgpipe.models.settings.settings import Settings

#: Of a colourful photograph, about which no check says anything.
FIGURES = dict.fromkeys(MEASUREMENTS, 0.5) | {
    "brightness_p99": 0.9,
    "brightness_p5": 0.1,
    "entropy": 7.0,
    "transparency": 0.0,
}


def given(*vocabulary, judge=JudgeSettings()):  # noqa: B008
    """Return what the filter gets, with these classes."""
    return Given(Settings(judge=judge), Facts(vocabulary=vocabulary))


PLAN = given("a")
NO_NEAR = JudgeSettings(threshold={"near_duplicate": 0})


def content(number):
    return hashlib.sha256(str(number).encode()).hexdigest()


def examined(images):
    """Return the rows and the hashes of images (number of the content, path, hashes)."""
    records = [image(path, number, perceptual_hash=hashes) for number, path, hashes in images]
    return rows_and_hashes(records, PLAN)


def rows_and_hashes(records, plan):
    rows = [*comparison.examine(records, plan)]
    return rows, [row.perceptual_hash for row in rows]


def drawn(count):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, ALL_BYTES, np.uint8).tobytes() for _ in range(count)]


def test_equal_and_similar_images_are_found():
    one, two, three, four = drawn(4)
    images = [
        *((1, "a/1.jpg", one), (2, "a/ü\n.jpg", two)),
        *((3, "a/3.jpg", one), (2, "a/\udcff.jpg", two)),
        *((4, "a/4.jpg", three), (5, "a/5.jpg", four)),
        *((6, "a/plain.jpg", b""), (6, "a/plain again.jpg", b"")),
    ]
    found = comparison.compare(*examined(images), PLAN, None)
    reasons = {row.path: row.findings[0] for row in found.rows if row.findings}
    assert {path: (one.reason, one.kept_copy) for path, one in reasons.items()} == {
        "a/3.jpg": ("near_duplicate", "a/1.jpg"),
        "a/\udcff.jpg": ("duplicate", "a/ü\n.jpg"),
        "a/plain.jpg": ("duplicate", "a/plain again.jpg"),
    }
    groups = {row.path: row.near_group for row in found.rows if row.near_group}
    assert set(groups) == {"a/1.jpg", "a/3.jpg"} and len(set(groups.values())) == 1
    other_way = comparison.compare(*examined(images[::-1]), PLAN, None)
    assert other_way.rows[::-1] == found.rows
    without_near = given("a", judge=NO_NEAR)
    without = comparison.compare(*examined(images), without_near, None)
    assert [finding["path"] for finding in without.rejected] == ["a/plain.jpg", "a/\udcff.jpg"]
    assert not without.warned and not any(row.near_group for row in without.rows)
    assert comparison.compare([], [], PLAN, None).rows == []


def test_ignored_near_duplicates_are_still_kept_in_one_fold():
    hashes = drawn(1)[0]
    rows, of_images = examined([(1, "a/1.jpg", hashes), (2, "a/2.jpg", hashes)])
    settings = JudgeSettings(severity={"near_duplicate": "ignore"})
    plan = given("a", judge=settings)
    found = comparison.compare(rows, of_images, plan, None)
    assert not found.warned
    assert [row.near_group for row in found.rows] == [1, 1]


def test_all_copies_of_one_photograph_are_one_image_in_an_interval():
    photograph, *others = drawn(4)
    images = [(number, f"a/{number}.jpg", photograph) for number in range(12)]
    images += [(number, f"a/{number}.jpg", one) for number, one in enumerate(others, 12)]
    found = comparison.compare(*examined(images), PLAN, None)
    columns = ImageColumns.of(row_files.as_table(found.rows))
    probabilities = np.full((15, 2), [0.9, 0.1])
    answers = AnswerTable.answered("ab", columns, most_probable(probabilities, columns.labels))
    assert answers.independent() == 4
    assert answers.figures()["ci95"][0] < 0.6


def changed(hashes, bits, seed):
    """Return what is kept of a similar image: other bits of its hash, and a noisy grey image."""
    values = np.frombuffer(hashes, np.uint8).copy()
    values[[bit // 8 for bit in bits]] ^= np.array([1 << bit % 8 for bit in bits], np.uint8)
    greys = values[GREYS : GREYS + GREY_BYTES].astype(float)
    greys += np.random.default_rng(seed).normal(0, 28, GREY_BYTES)
    values[GREYS : GREYS + GREY_BYTES] = greys.clip(0, 255).astype(np.uint8)
    return values.tobytes()


def test_what_is_alike_only_by_way_of_a_rejected_image_is_not_of_one_family():
    [between] = drawn(1)
    one, other = (changed(between, range(at, 200 + at, 8), seed=at) for at in range(2))
    images = [(1, "a/1.jpg", one), (2, "a/2.jpg", between), (3, "a/3.jpg", other)]
    rows, hashes = examined(images)
    rows[2].split = "test"
    found = comparison.compare(rows, hashes, PLAN, None)
    assert [row["path"] for row in found.rejected] == ["a/2.jpg"]
    assert [row.family for row in rows[::2]] == [content(1), content(3)]
    assert not rows[2].seen_family
    assert found.families.alike_apart == 2
    together, hashes = examined(
        [(1, "a/1.jpg", one), (2, "a/2.jpg", between), (3, "a/3.jpg", other)]
    )
    found = comparison.compare(together, hashes, PLAN, None)
    assert len({row.family for row in together}) == 1, "each is alike with its nearest"
    assert found.families.alike_apart == 0


def test_a_group_of_similar_images_that_are_all_rejected_is_no_group():
    # Two takes of one scene, both of them copied into both classes.
    takes = [(number, f"{label}/{number}.jpg") for number in (1, 2) for label in ("cat", "dog")]
    hashes = drawn(1)[0]
    records = [
        dataclasses.replace(image(path, number, perceptual_hash=hashes), label=path[:3])
        for number, path in takes
    ]
    found = comparison.compare(*rows_and_hashes(records, PLAN), PLAN, None)
    assert {one["reason"] for one in found.rejected} == {"label_conflict"}
    assert [one["path"] for one in found.rejected] == sorted(path for _, path in takes)
    assert found.rejected[0]["detail"] == "same bytes as dog/1.jpg (dog; this one is cat)"
    assert not any(row.near_group for row in found.rows)


@pytest.mark.parametrize("copies", [12, 5])
def test_classes_that_show_the_same_pictures_are_said_once(copies):
    records = []
    for number, hashes in enumerate(drawn(20)):
        records.append(image(f"clear/{number}.jpg", number, perceptual_hash=hashes))
        other = hashes if number < copies else drawn(1 + 20 + number)[-1]
        records.append(image(f"soft/{content(number)}.jpg", 100 + number, perceptual_hash=other))
    for record in records:
        record.label = record.path.split("/")[0]
    plan = given("clear", "soft")
    found = comparison.compare(*rows_and_hashes(records, plan), plan, None)
    if copies == 12:  # most of each class
        [finding] = found.families.findings
        assert finding["title"] == "the classes clear, soft show the same pictures (24 images)"
        assert finding["remedies"] == [] and found.warned == []
    else:
        assert found.families.findings == []
        assert [one["reason"] for one in found.warned] == ["near_duplicate_label_conflict"] * 10
    assert len({row.family for row in found.rows}) == 40 - copies


def test_a_conflict_of_labels_names_all_identical_files():
    paths = ("cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "owl/1.jpg")
    records = [dataclasses.replace(image(path, 1), label=path[:3]) for path in paths]
    plan = given("cat", "dog", "owl")
    found = comparison.compare(*rows_and_hashes(records, plan), plan, None)
    details = {one["path"]: one["detail"] for one in found.rejected}
    assert details["cat/1.jpg"] == (
        "same bytes as dog/1.jpg (dog; this one is cat): also cat/2.jpg (cat), owl/1.jpg (owl)"
    )


def image(path, number=0, **changes):
    values = {"width": 100, "height": 100, "mode": "RGB", "format": "PNG", "figures": FIGURES}
    return ImageRow(path, "a", 0, "train", content(number), byte_size=9, **(values | changes))


def test_a_table_is_read_as_it_was_written(tmp_path):
    drawn_hashes = drawn(1)[0]
    rows, hashes = examined([(1, "a/1.jpg", drawn_hashes), (2, "a/\udcff\n.jpg", drawn_hashes)])
    read = tmp_path / "read.arrow"
    row_files.write(str(read), rows)
    compared = comparison.compare(rows, hashes, PLAN, None)
    uri = str(tmp_path / "quarantine")
    file = Path(row_files.shard_path(uri, 0, 1))
    row_files.write(str(file), compared.rows, large_from=str(read))
    again = image_table.read(uri)
    without_hashes = [dataclasses.replace(row, perceptual_hash=b"") for row in compared.rows]
    assert again == dataclasses.replace(compared, rows=without_hashes)
    assert again.warned
    assert [*row_files.perceptual_hashes(str(file))] == hashes
    row_files.write(str(file), [])
    assert image_table.read(uri).rows == []
