"""The files between the filter's two passes, and the contents that the second pass compares."""

from __future__ import annotations

import hashlib

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.util import assert_that, equal_to

from imgpipe.components.image_file.perceptual_hash import ALL_BYTES
from imgpipe.components.image_filter import comparison, engine, near_duplicate_steps
from imgpipe.components.image_filter.check import Settings
from imgpipe.components.image_filter.decision import Decision
from imgpipe.components.image_filter.identical_files import Copy
from imgpipe.components.image_filter.near_duplicates import matching
from imgpipe.components.image_filter.part import Part
from imgpipe.components.image_record import ImageRecord

NO_NEAR = Settings(threshold={"near_duplicate": 0})


def content(number):
    """Return the content hash of the image with this number."""
    return hashlib.sha256(str(number).encode()).hexdigest()


def write(folder, name, images):
    """Write a part file of images and return the part.

    `images` are tuples (number of the content, path, perceptual hashes).
    """
    part = Part(f"{folder}/{name}")
    decisions = []
    for number, path, hashes in images:
        record = ImageRecord(path, "a", 0, "train", content(number), group="g")
        decisions.append(Decision(record, "a", perceptual_hash=hashes))
    part.write(decisions)
    return part


def drawn(count):
    """Return random perceptual hashes of `count` images."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, ALL_BYTES, np.uint8).tobytes() for _ in range(count)]


def test_a_part_is_read_as_written_including_unusual_names(tmp_path):
    (hashes,) = drawn(1)
    names = ["a/ü.jpg", "a/line\nbreak.jpg", "a/\udcff.jpg"]
    part = write(tmp_path, "train-0", [(n, name, hashes) for n, name in enumerate(names)])
    expected = [(content(n), Copy(name, "train", "a", "g")) for n, name in enumerate(names)]
    assert list(part.copies(dict.fromkeys(map(content, range(3))))) == expected
    assert [one.record.path for one in part.decisions()] == names
    rows, contents = part.hashes()
    assert len(rows) == 3 * (ALL_BYTES + matching.HASH_BYTES)
    assert contents == b"".join(bytes.fromhex(content(n)) for n in range(3))


def test_a_part_without_images_can_be_read(tmp_path):
    part = write(tmp_path, "test-0", [])
    assert (list(part.copies({})), part.hashes()) == ([], (b"", b""))
    assert list(comparison.search([part], Settings())) == []
    assert list(comparison.search([], Settings())) == []


def test_the_search_returns_only_repeated_contents_and_near_duplicates(tmp_path):
    one, two, three, four = drawn(4)
    parts = [
        write(tmp_path, "train-0", [(1, "a/1.jpg", one), (2, "a/2.jpg", two)]),
        write(tmp_path, "train-1", [(3, "a/3.jpg", one), (2, "a/again.jpg", two)]),
        write(tmp_path, "train-2", [(4, "a/4.jpg", three), (5, "a/5.jpg", four)]),
        write(tmp_path, "train-3", [(6, "a/plain.jpg", b""), (6, "a/plain again.jpg", b"")]),
    ]
    wanted = dict(comparison.search(parts, Settings()))
    assert set(wanted) == {content(1), content(2), content(3), content(6)}
    assert wanted[content(1)].group == wanted[content(3)].group
    assert wanted[content(2)] is None and wanted[content(6)] is None
    kept = [copy.path for part in parts for _, copy in part.copies(wanted)]
    assert kept == [
        *("a/1.jpg", "a/2.jpg", "a/3.jpg", "a/again.jpg"),
        *("a/plain.jpg", "a/plain again.jpg"),
    ]


def test_without_a_radius_the_search_returns_only_repeated_contents(tmp_path):
    (one,) = drawn(1)
    images = [(1, "a/1.jpg", one), (2, "a/2.jpg", one), (1, "a/3.jpg", one)]
    part = write(tmp_path, "train-0", images)
    assert dict(comparison.search([part], NO_NEAR)) == {content(1): None}


def test_the_search_on_beam_returns_what_the_local_search_returns(tmp_path):
    hashes = drawn(1200)
    for number in range(100):
        hashes[number] = hashes[number + 100]
    parts = [
        write(tmp_path, f"train-{k}", [(n, f"a/{n}.jpg", hashes[n]) for n in range(k, 1200, 3)])
        for k in range(3)
    ]
    parts.append(write(tmp_path, "train-3", [(7, "a/again.jpg", hashes[7])]))
    expected = list(comparison.search(parts, Settings()))
    assert len(expected) == 200
    with beam.Pipeline(runner="DirectRunner") as root:
        every = root | "All" >> beam.Create([parts])
        found = near_duplicate_steps.search(every, str(tmp_path / "work"), Settings())
        assert_that(found, equal_to(expected))


class Output:
    """A fake output that records the images that were written and those that were removed."""

    def __init__(self):
        self.written, self.removed = [], []

    def write(self, decision):
        self.written.append((decision.record.path, decision.rejection is None))
        return decision.stored_at("dark/x.png")

    def publish(self, removed, moved):
        self.removed = [(d.record.path, d.rejection.reason) for d in removed]
        return {path: f"{reason}/x.png" for path, reason in self.removed}


@pytest.fixture
def settled(tmp_path):
    """Return a function (records, settings) → (outcomes, output), which filters one shard."""

    def make(records, settings):
        part, output = Part(str(tmp_path / "part")), Output()
        counts = engine.examine(records, settings, part, output.write)
        found = dict(comparison.search([part], settings))
        copies = {}
        for image_hash, copy in part.copies(found):
            copies.setdefault(image_hash, []).append(copy)
        findings = dict(
            pair for group in copies.items() for pair in comparison.resolve_identical(group)
        )
        settings = engine.with_limits(settings, engine.add_counts([counts]))
        return engine.settle(part, settings, findings, {}, output.publish), output

    return make


def image(path, number=0, **changes):
    """Return the record of a PNG of 100 x 100 pixels, with these changes."""
    figures = {"brightness_p99": 0.9, "colour": 0.5}
    values = {"width": 100, "height": 100, "byte_size": 9, "mode": "RGB", "figures": figures}
    values |= {"format": "PNG", **changes}
    return ImageRecord(path, "a", 0, "train", content(number), **values)


def test_the_second_pass_removes_what_the_comparison_rejects(settled):
    records = [image("a/1.png", 1), image("a/2.png", 1), image("a/3.png", 3)]
    outcomes, output = settled(records, NO_NEAR)
    assert output.written == [("a/1.png", True), ("a/2.png", True), ("a/3.png", True)]
    assert output.removed == [("a/2.png", "duplicate")]
    (reject,) = outcomes.rejects
    assert (reject.stored, reject.kept_copy) == ("duplicate/x.png", "a/1.png")
    assert outcomes.kept == {"train": {"a": 2}} and outcomes.read == 3


def test_a_check_of_the_whole_set_takes_precedence_over_later_checks(settled):
    """The limits of a check of the whole set are known only in the second pass."""
    severity = {"odd_size": "reject", "greyscale": "reject", "dark": "reject"}
    settings = Settings(severity=severity, threshold={"near_duplicate": 0})
    records = [image(f"a/{n}.png", n) for n in range(9)]
    huge = {"width": 900, "height": 900}
    records += [
        image("b/grey.png", 10, figures={"brightness_p99": 0.9, "colour": 0.0}, **huge),
        image("b/dark.png", 11, figures={"brightness_p99": 0.1, "colour": 0.5}, **huge),
    ]
    outcomes, output = settled(records, settings)
    reasons = {reject.path: (reject.reason, reject.stored) for reject in outcomes.rejects}
    assert reasons == {
        "b/grey.png": ("odd_size", "odd_size/x.png"),
        "b/dark.png": ("dark", "dark/x.png"),
    }
    assert output.removed == [("b/grey.png", "odd_size")]
