"""What waits in files between the filter's passes, and which contents the search brings back."""

from __future__ import annotations

import hashlib

import numpy as np

from imgpipe.components.image_file.perceptual_hash import ALL_BYTES
from imgpipe.components.image_filter import first_pass
from imgpipe.components.image_filter.first_pass import Part, PartWriter
from imgpipe.components.image_filter.identical_files import Copy
from imgpipe.components.image_filter.near_duplicates import matching
from imgpipe.components.image_filter.near_duplicates.search import RADIUS


def content(number):
    return hashlib.sha256(str(number).encode()).hexdigest()


def write(folder, name, pictures):
    """`pictures`: (number of the content, path, hashes)."""
    part = Part.below(str(folder / "parts"), name)
    with PartWriter(part) as writer:
        for number, path, likeness in pictures:
            row = matching.row(content(number), likeness)
            writer.write(content(number), Copy(path, "train", "a", "g"), row)
    return part


def drawn(count):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, ALL_BYTES, np.uint8).tobytes() for _ in range(count)]


def test_what_was_written_comes_back_odd_names_too(tmp_path):
    (likeness,) = drawn(1)
    names = ["a/ü.jpg", "a/line\nbreak.jpg", "a/\udcff.jpg"]
    part = write(tmp_path, "train-0", [(n, name, likeness) for n, name in enumerate(names)])
    expected = [(content(n), Copy(name, "train", "a", "g")) for n, name in enumerate(names)]
    assert list(part.read_copies()) == expected
    assert len(part.read_rows()) == 3 * (ALL_BYTES + matching.HASH_BYTES)


def test_a_part_without_pictures_is_there(tmp_path):
    part = write(tmp_path, "test-0", [])
    assert (list(part.read_copies()), part.read_rows()) == ([], b"")
    assert list(first_pass.search([part], RADIUS)) == []
    assert list(first_pass.search([], RADIUS)) == []


def test_only_contents_that_are_there_twice_or_near_another_matter(tmp_path):
    one, two, three, four = drawn(4)
    parts = [
        write(tmp_path, "train-0", [(1, "a/1.jpg", one), (2, "a/2.jpg", two)]),
        write(tmp_path, "train-1", [(3, "a/3.jpg", one), (2, "a/again.jpg", two)]),
        write(tmp_path, "train-2", [(4, "a/4.jpg", three), (5, "a/5.jpg", four)]),
        write(tmp_path, "train-3", [(6, "a/plain.jpg", b""), (6, "a/plain again.jpg", b"")]),
    ]
    wanted = dict(first_pass.search(parts, RADIUS))
    assert set(wanted) == {content(1), content(2), content(3), content(6)}
    assert wanted[content(1)].group == wanted[content(3)].group
    assert wanted[content(2)] is None and wanted[content(6)] is None
    kept = [copy.path for part in parts for _, copy in first_pass.copies(part, wanted)]
    assert kept == [
        *("a/1.jpg", "a/2.jpg", "a/3.jpg", "a/again.jpg"),
        *("a/plain.jpg", "a/plain again.jpg"),
    ]


def test_without_a_radius_only_same_bytes_matter(tmp_path):
    (one,) = drawn(1)
    pictures = [(1, "a/1.jpg", one), (2, "a/2.jpg", one), (1, "a/3.jpg", one)]
    part = write(tmp_path, "train-0", pictures)
    assert dict(first_pass.search([part], 0)) == {content(1): None}
