"""The judgement of a whole set of images."""

import dataclasses
import hashlib

import numpy as np
import pytest

from imgpipe.components.common import images as tables
from imgpipe.components.common.answer_table import AnswerTable, most_probable
from imgpipe.components.common.image_file.pixels import ALL_BYTES, GREY_BYTES, GREYS, MEASUREMENTS
from imgpipe.components.common.image_row import ImageRow
from imgpipe.components.image_filter import engine
from imgpipe.components.image_filter.findings import ImageFindings, with_severity
from imgpipe.components.image_filter.judge.examine import examine
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


def image(path, number=0, hashes=b"", label="a", split="train"):
    values = {"width": 100, "height": 100, "mode": "RGB", "format": "PNG", "figures": FIGURES}
    fields = {"byte_size": 9, "perceptual_hash": hashes, **values}
    return ImageRow(path, label, 0, split, content(number), **fields)


def judged(rows, plan=PLAN):
    """Judge rows, which no rule has divided."""
    findings = ImageFindings()
    for number, row in enumerate(rows):
        findings.add(number, *examine(row, plan.settings.judge))
    images = tables.frame(rows, large=True)
    return engine.judge(images, findings, images["perceptual_hash"], plan, None)


def by_path(found, column):
    """Return the values of a column that are not empty, by path."""
    images = found.images[found.images[column].astype(bool)]
    return dict(zip(images["path"], images[column], strict=True))


def drawn(count):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, ALL_BYTES, np.uint8).tobytes() for _ in range(count)]


def test_equal_and_similar_images_are_found():
    one, two, three, four = drawn(4)
    rows = [
        *(image("a/1.jpg", 1, one), image("a/ü\n.jpg", 2, two), image("a/3.jpg", 3, one)),
        *(image("a/\udcff.jpg", 2, two), image("a/4.jpg", 4, three), image("a/5.jpg", 5, four)),
        *(image("a/plain.jpg", 6), image("a/plain again.jpg", 6)),
    ]
    found = judged(rows)
    assert {each["path"]: (each["reason"], each["kept_copy"]) for each in found.findings} == {
        "a/3.jpg": ("near_duplicate", "a/1.jpg"),
        "a/\udcff.jpg": ("duplicate", "a/ü\n.jpg"),
        "a/plain.jpg": ("duplicate", "a/plain again.jpg"),
    }
    groups = by_path(found, "near_group")
    assert set(groups) == {"a/1.jpg", "a/3.jpg"} and len(set(groups.values())) == 1
    other_way = judged(rows[::-1])
    assert other_way.findings == found.findings
    assert other_way.images[::-1].reset_index(drop=True).equals(found.images)
    without = judged(rows, given("a", judge=NO_NEAR))
    assert [each["path"] for each in without.findings] == ["a/plain.jpg", "a/\udcff.jpg"]
    assert by_path(without, "near_group") == {}
    assert len(judged([]).images) == 0


def test_ignored_near_duplicates_are_still_kept_in_one_fold():
    hashes = drawn(1)[0]
    plan = given("a", judge=JudgeSettings(severity={"near_duplicate": "ignore"}))
    found = judged([image("a/1.jpg", 1, hashes), image("a/2.jpg", 2, hashes)], plan)
    assert found.findings == []
    assert by_path(found, "near_group") == {"a/1.jpg": 1, "a/2.jpg": 1}


def test_all_copies_of_one_photograph_are_one_image_in_an_interval():
    photograph, *others = drawn(4)
    rows = [image(f"a/{number}.jpg", number, photograph) for number in range(12)]
    rows += [image(f"a/{number}.jpg", number, one) for number, one in enumerate(others, 12)]
    images = judged(rows).images
    probabilities = np.full((15, 2), [0.9, 0.1])
    predicted = most_probable(probabilities, images["label_index"].to_numpy())
    answers = AnswerTable.answered("ab", images, predicted)
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
    rows = [image("a/1.jpg", 1, one), image("a/2.jpg", 2, between)]
    found = judged([*rows, image("a/3.jpg", 3, other, split="test")])
    assert by_path(found, "reason") == {"a/2.jpg": "near_duplicate_across_splits"}
    families = by_path(found, "family")
    assert (families["a/1.jpg"], families["a/3.jpg"]) == (content(1), content(3))
    assert by_path(found, "seen_family") == {}
    assert found.alike_apart == 2
    found = judged([*rows, image("a/3.jpg", 3, other)])
    assert found.images["family"].nunique() == 1, "each is alike with its nearest"
    assert found.alike_apart == 0


def test_a_group_of_similar_images_that_are_all_rejected_is_no_group():
    # Two takes of one scene, both of them copied into both classes.
    hashes = drawn(1)[0]
    labels = ("cat", "dog")
    rows = [image(f"{label}/{n}.jpg", n, hashes, label) for n in (1, 2) for label in labels]
    found = judged(rows)
    assert {each["reason"] for each in found.findings} == {"label_conflict"}
    assert [each["path"] for each in found.findings] == sorted(row.path for row in rows)
    assert found.findings[0]["detail"] == "same bytes as dog/1.jpg (dog; this one is cat)"
    assert by_path(found, "near_group") == {}


@pytest.mark.parametrize("copies", [12, 5])
def test_classes_that_show_the_same_pictures_are_said_once(copies):
    rows = []
    for number, hashes in enumerate(drawn(20)):
        rows.append(image(f"clear/{number}.jpg", number, hashes, "clear"))
        other = hashes if number < copies else drawn(1 + 20 + number)[-1]
        rows.append(image(f"soft/{content(number)}.jpg", 100 + number, other, "soft"))
    found = judged(rows, given("clear", "soft"))
    if copies == 12:  # most of each class
        [finding] = found.notes
        assert finding["title"] == "the classes clear, soft show the same pictures (24 images)"
        assert finding["remedies"] == [] and found.findings == []
    else:
        assert found.notes == []
        assert [each["reason"] for each in found.findings] == ["near_duplicate_label_conflict"] * 10
    assert found.images["family"].nunique() == 40 - copies


def test_a_conflict_of_labels_names_all_identical_files():
    paths = ("cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "owl/1.jpg")
    found = judged([image(path, 1, label=path[:3]) for path in paths], given("cat", "dog", "owl"))
    [detail] = (
        e["detail"] for e in with_severity(found.findings, "reject") if "cat/1" in e["path"]
    )
    assert detail == (
        "same bytes as dog/1.jpg (dog; this one is cat): also cat/2.jpg (cat), owl/1.jpg (owl)"
    )


def test_a_table_is_read_as_it_was_written(tmp_path):
    hashes = drawn(1)[0]
    rows = [image("a/1.jpg", 1, hashes), image("a/\udcff\n.jpg", 2, hashes)]
    read = str(tmp_path / "read.arrow")
    tables.write(read, tables.frame(rows, large=True))
    assert [*tables.rows(tables.read_file(read, figures=True))] == [
        dataclasses.replace(row, perceptual_hash=b"") for row in rows
    ]
    found = judged(rows).images
    uri = str(tmp_path / "quarantine")
    file = tables.shard_path(uri, 0, 1)
    tables.write(file, found, large_from=read)
    again = tables.read(uri, figures=True)
    assert again.equals(found[[*again.columns]])
    assert [*tables.perceptual_hashes(file)] == [hashes] * 2
    tables.write(file, tables.frame([]))
    assert len(tables.read(uri)) == 0
