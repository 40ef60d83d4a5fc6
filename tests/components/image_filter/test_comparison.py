"""The comparison of all images, from the files of the first pass to the second one."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np

from imgpipe.components.common.image_file.content import Content
from imgpipe.components.common.image_file.perceptual_hash import ALL_BYTES
from imgpipe.components.common.image_record import ImageRecord
from imgpipe.components.image_filter import comparison
from imgpipe.components.image_filter.judge.settings import JudgeSettings
from imgpipe.components.image_filter.settings import FilterPlan

#: Of a colourful photograph, about which no check says anything.
FIGURES = {
    "brightness_p99": 0.9,
    "brightness_p5": 0.1,
    "entropy": 7.0,
    "sharpness": 0.5,
    "colour": 0.5,
    "transparency": 0.0,
}
PLAN = FilterPlan(vocabulary=("a",))
NO_NEAR = JudgeSettings(threshold={"near_duplicate": 0})


def content(number):
    """Return the content hash of the image with this number."""
    return hashlib.sha256(str(number).encode()).hexdigest()


def write(folder, name, images):
    """Write the part of images (number of the content, path, perceptual hashes)."""
    records = [image(path, number, perceptual_hash=hashes) for number, path, hashes in images]
    return comparison.examine(records, PLAN, f"{folder}/{name}")


def drawn(count):
    """Return random perceptual hashes of `count` images."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, ALL_BYTES, np.uint8).tobytes() for _ in range(count)]


def test_equal_and_similar_images_of_several_parts_are_found(tmp_path):
    one, two, three, four = drawn(4)
    parts = [
        write(tmp_path, "0", [(1, "a/1.jpg", one), (2, "a/ü\n.jpg", two)]),
        write(tmp_path, "1", [(3, "a/3.jpg", one), (2, "a/\udcff.jpg", two)]),
        write(tmp_path, "2", [(4, "a/4.jpg", three), (5, "a/5.jpg", four)]),
        write(tmp_path, "3", [(6, "a/plain.jpg", b""), (6, "a/plain again.jpg", b"")]),
        write(tmp_path, "4", []),
    ]
    found = comparison.compare(parts, PLAN, None)
    assert {path: (one.reason, one.kept_copy) for path, one in found.findings.items()} == {
        "a/3.jpg": ("near_duplicate", "a/1.jpg"),
        "a/\udcff.jpg": ("duplicate", "a/ü\n.jpg"),
        "a/plain.jpg": ("duplicate", "a/plain again.jpg"),
    }
    assert set(found.groups) == {content(1), content(3)} and len(set(found.groups.values())) == 1
    assert [[one["path"] for one in line["members"]] for line in found.near] == [
        ["a/1.jpg", "a/3.jpg"]
    ]
    assert comparison.compare(parts[::-1], PLAN, None) == found
    without = comparison.compare(parts, FilterPlan(settings=NO_NEAR, vocabulary=("a",)), None)
    assert set(without.findings) == {"a/\udcff.jpg", "a/plain.jpg"}
    assert (without.near, without.groups) == ((), {})
    assert comparison.compare([], PLAN, None) == comparison.compare(parts[-1:], PLAN, None)


def test_a_group_of_similar_images_that_are_all_rejected_is_no_group(tmp_path):
    # Two takes of one scene, both of them copied into both classes.
    takes = [(number, f"{label}/{number}.jpg") for number in (1, 2) for label in ("cat", "dog")]
    hashes = drawn(1)[0]
    records = [
        dataclasses.replace(image(path, number, perceptual_hash=hashes), label=path[:3])
        for number, path in takes
    ]
    part = comparison.examine(records, PLAN, f"{tmp_path}/0")
    found = comparison.compare([part], PLAN, None)
    assert {one.reason for one in found.findings.values()} == {"label_conflict"}
    assert sorted(found.findings) == sorted(path for _, path in takes)
    assert found.near == ()


def image(path, number=0, **changes):
    """Return the record of a PNG of 100 x 100 pixels, with these changes of its content."""
    values = {"width": 100, "height": 100, "mode": "RGB", "format": "PNG", "figures": FIGURES}
    inside = Content(**(values | changes))
    return ImageRecord(path, "a", 0, "train", content(number), byte_size=9, content=inside)


def test_a_check_of_the_whole_set_takes_precedence_over_later_checks(tmp_path):
    """The limits of a check of the whole set are known only in the second pass."""
    severity = {"odd_size": "reject", "greyscale": "reject", "dark": "reject"}
    settings = JudgeSettings(severity=severity, threshold={"near_duplicate": 0})
    records = [image(f"a/{n}.png", n) for n in range(9)]
    huge = {"width": 900, "height": 900}
    records += [
        image("b/grey.png", 10, figures=FIGURES | {"colour": 0.0}, **huge),
        image("b/dark.png", 11, figures=FIGURES | {"brightness_p99": 0.1}, **huge),
    ]
    plan = FilterPlan(settings=settings, vocabulary=("a",))
    part = comparison.examine(records, plan, str(tmp_path / "part"))
    decisions = comparison.compare([part], plan, None).finish(part, settings)
    assert {one.record.path: one.rejection.reason for one in decisions if one.rejection} == {
        "b/grey.png": "odd_size",
        "b/dark.png": "dark",
    }
