"""Beam and TensorFlow take an output folder's name literally, even if it looks like a pattern."""

from __future__ import annotations

import apache_beam as beam
import pytest
import tensorflow as tf
from apache_beam.io.localfilesystem import LocalFileSystem

from imgpipe.components.beam.literal_folders import literal_folders


@pytest.fixture
def neighbours(tmp_path):
    """Return a folder with the folders `out*` and `out2`.

    `out2` holds the results of another run and matches the pattern `out*`.
    """
    for name in ("out*", "out2"):
        (tmp_path / name).mkdir()
    (tmp_path / "out2/part-00000-of-00001").write_text("theirs\n")
    return tmp_path


def write_and_read(folder):
    """Write a text file into the folder, read all files of the folder, and return their paths."""
    with beam.Pipeline() as root:
        _ = root | beam.Create(["ours"]) | beam.io.WriteToText(f"{folder}/part", num_shards=1)
    found = []
    with beam.Pipeline() as root:
        _ = root | beam.io.ReadFromText(f"{folder}/*") | beam.Map(found.append)
    return sorted(tf.io.gfile.glob(f"{folder}/*"))


def test_files_of_a_folder_that_matches_the_name_are_neither_read_nor_deleted(neighbours):
    folder = neighbours / "out*"
    with literal_folders(folder):
        assert write_and_read(folder) == [f"{folder}/part-00000-of-00001"]
    assert (folder / "part-00000-of-00001").read_text() == "ours\n"
    assert (neighbours / "out2/part-00000-of-00001").read_text() == "theirs\n"


def test_beam_and_tensorflow_are_patched_only_within_a_folder_that_looks_like_a_pattern(tmp_path):
    before = LocalFileSystem.match, tf.io.gfile.glob
    with literal_folders(tmp_path / "plain"):
        assert (LocalFileSystem.match, tf.io.gfile.glob) == before
    with literal_folders(tmp_path / "[1]"):
        assert LocalFileSystem.match is not before[0]
    assert (LocalFileSystem.match, tf.io.gfile.glob) == before
