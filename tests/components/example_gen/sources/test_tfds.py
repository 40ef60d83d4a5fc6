"""TensorFlow Datasets as a source: builders defined here and prepared on disk, and errors."""

from io import BytesIO
from typing import ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from imgpipe.components.example_gen.sources import read_source
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.settings.data import DataSettings
from tests.components.example_gen.sources.trees import noted

# TFDS asks protobuf for a field's label before it asks whether the field is repeated.
pytestmark = pytest.mark.filterwarnings(r"ignore:.*label\(\) is deprecated")

NAMES = ["stone", "cloth", "blade"]  # not in sorted order


class _Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A builder of 21 images, whose one colour is the number of the image in its split."""

    VERSION = tfds.core.Version("1.2.3")
    SPLITS: ClassVar = {"train": 12, "test": 6, "extra": 3}

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "image/filename": tfds.features.Text(),
            "label": tfds.features.ClassLabel(names=NAMES),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split, n) for split, n in self.SPLITS.items()}

    def _generate_examples(self, split, count):
        for number in range(count):
            yield (
                number,
                {
                    "image": np.full((9, 8, 3), number, np.uint8),
                    "image/filename": f"{split}/{number}.png",
                    "label": NAMES[number % 3],
                },
            )


class TinyShapes(_Tiny):
    """A registered builder, which is found by its name `tiny_shapes`."""


class WordyShapes(_Tiny):
    """A builder whose labels are texts, without the declaration of a label."""

    def _info(self):
        image = tfds.features.Image(shape=(None, None, 3), encoding_format="png")
        features = {"image": image, "category": tfds.features.Text()}
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _generate_examples(self, split, count):
        for number, row in super()._generate_examples(split, count):
            yield number, {"image": row["image"], "category": row["label"]}


class BrokenShapes(_Tiny):
    """A builder whose own code raises AssertionError."""

    def _split_generators(self, dl_manager):
        raise AssertionError("put far.zip into the manual folder")


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    TinyShapes(data_dir=folder).download_and_prepare()
    return DataSettings(tfds_dir=str(folder))


def colour(data):
    return np.asarray(Image.open(BytesIO(data)))[0, 0, 0]


def test_a_prepared_set_gives_its_splits_labels_and_images(options):
    images = read_source("tfds:tiny_shapes", options).hashed()
    assert images.classes == ("blade", "cloth", "stone") and len(images.items) == 18
    assert images.given_splits == ("train", "test")
    assert noted(images) == [("unused_split", "extra")]
    for item in images.items:
        number = int(item.path.rsplit("/")[-1].split(".")[0])
        assert item.label == NAMES[number % 3]
        assert item.path.startswith(f"{item.split}/0000")
        assert colour(images.reader.read(item)) == number
    assert read_source("tfds:tiny_shapes:1.2.3", options).hashed().fingerprint == images.fingerprint


def test_features_have_the_usual_names_of_all_tables(tmp_path):
    WordyShapes(data_dir=tmp_path).download_and_prepare()
    images = read_source("tfds:wordy_shapes:train", DataSettings(tfds_dir=str(tmp_path)))
    assert images.counts() == {"blade": 4, "cloth": 4, "stone": 4}


@pytest.mark.parametrize(
    ("split", "count"), [("train", 12), ("extra", 3), ("train[:50%]", 6), ("train+test[3:]", 15)]
)
def test_one_split_or_slice_of_a_set_has_no_given_splits(options, split, count):
    images = read_source(f"tfds:tiny_shapes:{split}", options)
    assert len(images.items) == count and images.given_splits == ()
    assert len({item.path for item in images.items}) == count


def test_the_error_of_a_set_that_cannot_be_prepared_says_where_to_put_it(tmp_path):
    with pytest.raises(ResourceError, match=r"put far\.zip into the manual folder") as caught:
        read_source("tfds:broken_shapes", DataSettings(tfds_dir=str(tmp_path)))
    text = str(caught.value)
    assert f"is not prepared in {tmp_path}/broken_shapes/1.2.3 and cannot be downloaded" in text
    assert "run `tfds build broken_shapes`" in text and caught.value.exit_code == 5


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("tfds:no_such_set_at_all", "no_such_set_at_all"),
        ("tfds:", "expected tfds:NAME or tfds:NAME:SPLIT"),
        ("tfds:tiny_shapes:tost", "no split 'tost'; the set has extra, test, train"),
    ],
)
def test_unknown_names_are_config_errors(options, spec, message):
    with pytest.raises(ConfigError, match=message):
        read_source(spec, options)
