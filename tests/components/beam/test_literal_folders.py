"""Beam and TensorFlow within an output folder whose name looks like a pattern."""

from __future__ import annotations

import apache_beam as beam
import pytest
import tensorflow as tf
from apache_beam.io.localfilesystem import LocalFileSystem

from imgpipe.components.beam.literal_folders import literal_folders


@pytest.fixture
def neighbours(tmp_path):
    """The folder `out*`, and `out2` with the results of another run."""
    for name in ("out*", "out2"):
        (tmp_path / name).mkdir()
    (tmp_path / "out2/part-00000-of-00001").write_text("theirs\n")
    return tmp_path


def write_and_read(folder):
    with beam.Pipeline() as root:
        _ = root | beam.Create(["ours"]) | beam.io.WriteToText(f"{folder}/part", num_shards=1)
    found = []
    with beam.Pipeline() as root:
        _ = root | beam.io.ReadFromText(f"{folder}/*") | beam.Map(found.append)
    return sorted(tf.io.gfile.glob(f"{folder}/*"))


def test_a_neighbours_files_are_neither_read_nor_deleted(neighbours):
    folder = neighbours / "out*"
    with literal_folders(folder):
        assert write_and_read(folder) == [f"{folder}/part-00000-of-00001"]
    assert (folder / "part-00000-of-00001").read_text() == "ours\n"
    assert (neighbours / "out2/part-00000-of-00001").read_text() == "theirs\n"


def test_nothing_is_changed_for_a_plain_folder_or_afterwards(tmp_path):
    before = LocalFileSystem.match, tf.io.gfile.glob
    with literal_folders(tmp_path / "plain"):
        assert (LocalFileSystem.match, tf.io.gfile.glob) == before
    with literal_folders(tmp_path / "[1]"):
        assert LocalFileSystem.match is not before[0]
    assert (LocalFileSystem.match, tf.io.gfile.glob) == before
