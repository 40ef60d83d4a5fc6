"""TFRecord files: names of features and files, parts, and damage."""

import pickle

import pytest
import tensorflow as tf

from imgpipe.components.common.storage.records import make, serialise
from imgpipe.components.example_gen.sources import read_source
from imgpipe.models.errors import ConfigError
from imgpipe.models.settings.data import DataSettings
from tests import python_program
from tests.components.example_gen.sources.trees import problems


def write(file, records, packed=""):
    file.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(file), tf.io.TFRecordOptions(packed)) as writer:
        for record in records:
            writer.write(serialise(make(record)))
    return str(file)


def records(encode, count=6, image="image/encoded", label="image/class/text"):
    return [{image: encode(seed=n), label: "ab"[n % 2]} for n in range(count)]


def test_records_become_items(tmp_path, encode):
    images = read_source(write(tmp_path / "x.tfrecord", records(encode)))
    assert images.counts() == {"a": 3, "b": 3} and not images.findings
    assert [i.path for i in images.items] == [f"x.tfrecord/{n:08d}" for n in range(6)]
    found = [images.reader.read(item) for item in images.items]
    assert found == [encode(seed=n) for n in range(6)]


def test_compressed_records_are_refused_with_what_to_do(tmp_path, encode):
    spec = write(tmp_path / "x.tfrecord.gz", records(encode), "GZIP")
    with pytest.raises(ConfigError, match="it is compressed; unpack it with gunzip"):
        read_source(spec)


def test_images_are_read_as_parts_of_a_file_without_tensorflow(tmp_path, encode):
    images = read_source(write(tmp_path / "x.tfrecord", records(encode)))
    stored = pickle.dumps((images.reader, images.items[3])).hex()
    code = (
        f"import pickle, sys; reader, item = pickle.loads(bytes.fromhex({stored!r})); "
        "print(reader.read(item).hex(), 'tensorflow' in sys.modules)"
    )
    assert python_program.printed(code).split() == [encode(seed=3).hex(), "False"]


def test_records_of_pixels_are_said_to_be_pixels(tmp_path):
    sizes = {"height": 9, "width": 8, "depth": 3}
    spec = write(tmp_path / "x.tfrecord", [{**sizes, "label": 1, "image_raw": bytes(9 * 8 * 3)}])
    with pytest.raises(ConfigError, match=r"are [\d x]+ pixels and not encoded; .*encode_jpeg"):
        read_source(spec)


def test_splits_come_from_the_names_of_shards(tmp_path, encode):
    for name in ("rps-train.tfrecord-00000-of-00002", "rps-train.tfrecord-00001-of-00002"):
        write(tmp_path / name, records(encode, 4))
    write(tmp_path / "rps-test.tfrecord", records(encode, 2))
    for spec in (str(tmp_path), f"{tmp_path}/*.tfrecord*"):
        scan = read_source(spec)
        assert scan.given_splits == ("train", "test")
        assert [i.split for i in scan.items] == ["test"] * 2 + ["train"] * 8
    held_out = read_source(f"{tmp_path}/rps-test*.tfrecord", least_classes=1)
    assert held_out.counts() == {"a": 1, "b": 1}


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("name", ["x.tfrecord-{}-of-00004", "x_{}-of-00004.tfrecord"])
def test_a_missing_part_is_named(tmp_path, encode, first, name):
    for number in (0, 1, 3):
        write(tmp_path / name.format(f"{number + first:05d}"), records(encode, 2))
    gone = name.format(f"{2 + first:05d}")
    with pytest.raises(ConfigError, match=f"3 of 4 parts are here, and {gone} is missing"):
        read_source(str(tmp_path))
    assert len(read_source(f"{tmp_path}/x*.tfrec*").items) == 6
    write(tmp_path / gone, records(encode, 2))
    assert len(read_source(str(tmp_path)).items) == 8


def test_a_pattern_reads_folders_that_name_splits(tmp_path, encode):
    write(tmp_path / "train/x-1.tfrec", records(encode, 4))
    write(tmp_path / "test/x-2.tfrec", records(encode, 2))
    images = read_source(f"{tmp_path}/*/*.tfrec*")
    assert [i.split for i in images.items] == ["test"] * 2 + ["train"] * 4


def test_files_without_a_split_beside_others_with_one_are_refused(tmp_path, encode):
    write(tmp_path / "train.tfrecord", records(encode))
    file = tmp_path / "holdout.tfrecord"
    write(file, records(encode))
    expected = (
        r"\(train.tfrecord \(train\)\) and others do not \(holdout.tfrecord\). Expected a word"
    )
    with pytest.raises(ConfigError, match=expected):
        read_source(str(tmp_path))
    write(file, [{**row, "split": "test"} for row in records(encode)])
    assert read_source(str(tmp_path)).given_splits == ("train", "test")
    write(file, [])
    assert read_source(str(tmp_path)).given_splits == ("train",)


def test_a_word_that_names_no_split_is_refused(tmp_path, encode):
    """A record of a held-out split must not be trained on."""
    rows = [{**row, "split": "Test"} for row in records(encode)]
    spec = write(tmp_path / "x.tfrecord", rows)
    with pytest.raises(ConfigError, match="gives test but no image for train; leave the split"):
        read_source(spec)
    assert read_source(spec, least_classes=1).given_splits == ("test",)
    rows[4]["split"] = "holdout"
    spec = write(tmp_path / "x.tfrecord", rows)
    with pytest.raises(ConfigError, match="record 4: split 'holdout'; expected train, validation"):
        read_source(spec)


def test_features_may_be_named_and_labels_may_be_integers(tmp_path, encode):
    rows = [{"pic": encode(seed=n), "kind": n % 2, "label": "x", "who": "ab"[n]} for n in (0, 1)]
    spec = write(tmp_path / "x.tfrecord", rows)
    words = "features kind, label, pic, who is an image; expected .* by data.image_column and"
    with pytest.raises(ConfigError, match=words):
        read_source(spec)
    named = {"image_column": "pic", "label_column": "kind", "group_column": "who"}
    scan = read_source(spec, DataSettings(**named))
    assert scan.counts() == {"0": 1, "1": 1} and [i.group for i in scan.items] == ["a", "b"]
    with pytest.raises(ConfigError, match="no column or feature 'nope'; found kind, label, pic"):
        read_source(spec, DataSettings(image_column="nope"))


@pytest.mark.parametrize("label", ["Category", "class_name", "image/class/text", "target"])
@pytest.mark.parametrize("image", ["image/encoded", "IMG", "jpeg"])
def test_features_have_the_usual_names_of_all_tables(tmp_path, encode, image, label):
    spec = write(tmp_path / "x.tfrecord", records(encode, 4, image, label))
    assert read_source(spec).counts() == {"a": 2, "b": 2}


def test_several_values_of_a_label_are_refused_and_words_for_none_are_no_label(tmp_path, encode):
    rows = records(encode, 4, label="label")
    spec = write(tmp_path / "x.tfrecord", [*rows, {**rows[0], "label": [0, 1, 0]}])
    with pytest.raises(
        ConfigError, match=r"several labels to an image: \[0, 1, 0\]\. Expected one"
    ):
        read_source(spec)
    spec = write(tmp_path / "y.tfrecord", [*rows, {**rows[0], "label": "None"}])
    assert read_source(spec).counts() == {"a": 2, "b": 2}


def test_records_without_image_are_noted_and_those_without_label_have_none(tmp_path, encode):
    rows = [*records(encode, 4), {"image/class/text": "a"}, {"image/encoded": encode()}]
    spec = write(tmp_path / "x.tfrecord", rows)
    why = "the record has 0 values of 'image/encoded', expected one"
    assert [*problems(spec).values()] == ["", "", "", "", why, ""]
    assert read_source(spec).items[5].label is None


@pytest.mark.parametrize(
    "spoil", [lambda d: d[:-40], lambda d: d + d[:5], lambda d: d[:900] + b"!" + d[901:]]
)
def test_a_damaged_file_is_refused_with_the_number_of_the_record(tmp_path, encode, spoil):
    file = tmp_path / "x.tfrecord"
    write(file, records(encode))
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(ConfigError, match=r"damaged or not a TFRecord file: record \d at byte"):
        read_source(str(file))


def test_files_that_hold_no_examples_are_refused_with_the_cause(tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "x.tfrecord")) as writer:
        writer.write(b"\xff\xff no example")
    with pytest.raises(ConfigError, match=r"record 0 is not a tf\.Example"):
        read_source(str(tmp_path / "x.tfrecord"))
    with pytest.raises(ConfigError, match="does not exist"):
        read_source(str(tmp_path / "gone.tfrecord"))
