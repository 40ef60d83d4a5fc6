"""Ingest on Beam writes an Example for every file, and splits the images by their content."""

import collections
import os

import pytest

from imgpipe.components.common.storage.records import first, read_examples, shard_files, text
from imgpipe.components.example_gen.image_example_gen import ingest
from imgpipe.components.example_gen.sources import read_source
from imgpipe.models import names
from imgpipe.models.errors import ResourceError
from imgpipe.models.files.atomic_write import TEMPORARY
from imgpipe.models.settings.data import DataSettings, SplitSettings
from imgpipe.models.settings.given import Facts, Given
from tests.components.filtered import beam_pipeline, settings_of


@pytest.fixture
def read(tmp_path):
    """Return a function (folder, sections of the settings) → Examples by path."""

    def make(folder, name="examples", fingerprint=None, shard_size=256, **sections):
        settings = settings_of(folder, tmp_path / "out", **sections)
        scan = read_source(settings.data.source, settings.data).hashed()
        planned = fingerprint or scan.fingerprint
        given = Given(settings, Facts(vocabulary=scan.classes, fingerprint=planned))
        uri = str(tmp_path / name)
        make.summary = ingest(beam_pipeline(), uri, given, shard_size)
        found = {}
        for split in names.SPLITS:
            for path in shard_files(uri, split):
                for example in read_examples(path):
                    assert text(example, names.SPLIT) == split
                    found[text(example, names.PATH)] = example
        return found

    return make


def splits(found):
    return {path: text(example, names.SPLIT) for path, example in found.items()}


def test_every_file_gives_one_example_and_every_split_has_some(photos, read):
    found = read(photos({"cat": 30, "dog": 30}), shard_size=7)
    assert len(found) == 60 and read.summary["images"] == 60
    assert {first(e, names.LABEL_INDEX) for e in found.values()} == {0, 1}
    assert set(splits(found).values()) == set(names.SPLITS)
    assert sum(read.summary["splits"].values()) == 60


def test_added_files_move_no_image_and_copies_are_in_one_split(photos, read):
    folder = photos({"cat": 30, "dog": 30})
    before = splits(read(folder))
    (folder / "dog/copy.jpg").write_bytes((folder / "dog/001.jpg").read_bytes())
    os.utime(folder / "dog/002.jpg", (1, 1))
    after = splits(read(folder, "again"))
    assert {path: split for path, split in after.items() if path in before} == before
    assert after["dog/copy.jpg"] == after["dog/001.jpg"]


def test_missing_validation_is_carved_out_of_train(photos, read):
    folder = photos({"train/cat": 40, "train/dog": 40, "test/cat": 5, "test/dog": 5})
    found = splits(read(folder))
    assert {found[path] for path in found if path.startswith("test/")} == {"test"}
    assert {found[path] for path in found if path.startswith("train/")} == {"train", "validation"}


def test_a_source_that_changed_since_planning_is_refused(photos, read, encode):
    folder = photos({"cat": 3, "dog": 3})
    planned = read_source(str(folder)).hashed().fingerprint
    (folder / "cat/new.jpg").write_bytes(encode(seed=900))
    with pytest.raises(ResourceError, match="changed while the run was reading them"):
        read(folder, fingerprint=planned)


def test_each_group_is_in_one_split_and_is_written_to_the_examples(photos, read, encode):
    files = {
        f"{label}/{person}.{n}.jpg": encode(seed=100 * person + n)
        for label in ("cat", "dog")
        for person in range(20)
        for n in range(3)
    }
    found = read(
        photos(files),
        data=DataSettings(group_pattern=r"/(\d+)\."),
        split=SplitSettings(validation=0.3, test=0.3),
    )
    places = collections.defaultdict(set)
    for path, example in found.items():
        assert text(example, names.GROUP) == path.split("/")[1].split(".")[0]
        places[text(example, names.GROUP)].add(text(example, names.SPLIT))
    assert all(len(splits) == 1 for splits in places.values())
    assert set.union(*places.values()) == set(names.SPLITS)


def test_temporary_files_of_a_dead_attempt_are_removed(photos, read, tmp_path):
    """Other components read every file in the folder of a split, as `FOLDER/*`."""
    left = tmp_path / "examples" / "Split-train" / f"{TEMPORARY}0123"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half a record")
    read(photos({"cat": 5, "dog": 5}))
    assert not left.exists()
