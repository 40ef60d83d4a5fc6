"""What the feature bank stores: features with as many views as its budget allows, or nothing."""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import apache_beam as beam
import numpy as np
import pytest

from imgpipe.components.common.image_row import TRANSCODED
from imgpipe.components.common.storage import records
from imgpipe.components.feature_bank.extraction import ImageFeatures
from imgpipe.components.feature_bank.storage import (
    StoragePlan,
    free_budget,
    make_plan,
    plan_one_block,
    shared_extractor,
)
from imgpipe.models import names
from imgpipe.models.errors import ResourceError
from imgpipe.models.features.bank import read_rows
from imgpipe.models.features.extractor import BankNetwork, FeatureExtractor
from imgpipe.models.features.rows import Labelled
from imgpipe.models.head import feature_choice
from imgpipe.models.settings.course import ViewSpec
from imgpipe.models.settings.settings import Settings
from tests import image_tables
from tests.images import encoded
from tests.models.banks import write_examples
from tests.network_settings import network_settings

_KEPT = {"train": 100, "validation": 10, "test": 10}
_ROWS, _IMAGES = 100 * 3 + 20, 120
_SETTINGS = network_settings(
    backbone="conv_4_8", weights="none", freeze="all", image_size=32, views=ViewSpec(count=2)
)
_DIM = 8


def _plan(settings: Settings, budget: float, store: Path):
    return make_plan(BankNetwork(settings, "float32"), str(store), _KEPT, budget)


@pytest.mark.parametrize(
    ("budget", "dim", "views", "said"),
    [
        (2 * _ROWS * _DIM, _DIM, 2, ""),
        (2 * _ROWS * _DIM - 1, _DIM, 1, "those of 1 augmented views"),
        (2 * _IMAGES * _DIM, _DIM, 0, "those of 0 augmented views"),
        (2 * _IMAGES * _DIM - 1, 0, 2, "take 0.004883 MiB, over bank.budget, which is 0.0018"),
    ],
    ids=["all", "a view less", "images", "nothing"],
)
def test_as_much_as_fits_the_budget_is_stored(tmp_path, budget, dim, views, said):
    plan = _plan(_SETTINGS, budget, tmp_path)
    assert (plan.dim, plan.views) == (dim, views)
    assert said in plan.note
    assert bool(plan.note) == bool(said)


def test_features_of_one_block_are_stored_where_those_of_all_are_over_the_budget(tmp_path):
    network = BankNetwork(_SEVERAL_MAPS, "float32")
    several = make_plan(network, str(tmp_path), _KEPT, 2 * _IMAGES * _DIM)
    assert not several.dim
    plan = plan_one_block(network, str(tmp_path), _KEPT, 2 * _IMAGES * _DIM, several.note)
    assert (plan.dim, plan.read) == (_DIM, "average")
    assert plan.note == f"{several.note}; the head reads average features, and no others are tried"
    nothing = plan_one_block(network, str(tmp_path), _KEPT, 2 * _IMAGES * _DIM - 1, several.note)
    assert not nothing.dim
    assert nothing.note.startswith("features would take 0.001831 MiB, over bank.budget")


def test_without_a_budget_a_quarter_of_the_free_disk_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=6_000_000))
    assert free_budget(str(tmp_path / "new"), str(tmp_path)) == 1_500_000


def test_features_of_a_backbone_that_is_trained_are_not_stored(tmp_path):
    trains = network_settings(_SETTINGS, freeze="auto")
    plan = _plan(trains, 1e12, tmp_path)
    assert plan.dim == 0
    assert plan.note == "the backbone itself is trained, so that images are read"


def _examples(folder: Path, labels: np.ndarray) -> str:
    """Write an Examples artifact of images of noise, which every second one has in its left half.

    There it is stronger, so that the mean is about the same. The classes are `labels`, which agree
    with this or not. Every tenth image is stored as PNG instead of the file as found.
    """
    draw = np.random.default_rng(0)
    rows = []
    for split, count in (("train", len(labels)), ("validation", 4), ("test", 4)):
        for i in range(count):
            strength = 30 * (np.arange(32) < 16)[:, None] if i % 2 else 15
            noise = strength * draw.normal(size=(32, 32, 3))
            image = encoded((128 + noise).clip(0, 255).astype(np.uint8))
            file = b"TIFF" + image if i % 10 == 0 else image
            values = {
                names.SPLIT: split,
                names.IMAGE_BYTES: image,
                names.IMAGE_HASH: hashlib.sha256(file).hexdigest(),
                names.REPAIRS: "" if file == image else TRANSCODED,
                names.PATH: f"{i}.png",
                names.LABEL_INDEX: int(labels[i]),
            }
            rows.append((split, values))
    return write_examples(folder / "examples", rows)


_HALF, _NOISE = np.arange(60) % 2, np.random.default_rng(1).integers(0, 2, 60)
_SEVERAL_MAPS = network_settings(_SETTINGS, features="conv1", views=ViewSpec(count=0))


def _bank(folder: Path, labels: np.ndarray) -> ImageFeatures:
    plan = _plan(_SEVERAL_MAPS, 1e12, folder / "store")
    examples = _examples(folder, labels)
    hashes = Labelled.read([f"{examples}/Split-train/*"]).hashes.astype(str)
    rows = [image_tables.row("", split=names.TRAIN, image_hash=digest) for digest in hashes]
    training = image_tables.table(rows)
    images = {"train": len(labels), "validation": 4, "test": 4}
    return ImageFeatures(plan, examples, str(folder / "features"), images, training, True)


def test_examples_that_have_lost_images_are_refused(tmp_path):
    """Each record that is left is whole, as where a file was deleted."""
    bank = _bank(tmp_path, _HALF)
    shutil.rmtree(tmp_path / "examples" / "Split-validation")
    words = r"is damaged: of 68 views of the images in the table, 64 were found\. .* ImageFilter"
    with pytest.raises(ResourceError, match=words):
        bank.extract(beam.Pipeline())


def test_a_sample_has_its_images_also_those_that_are_stored_as_png(tmp_path):
    bank = _bank(tmp_path, _HALF)
    sample = frozenset([*sorted(bank.sample)][::2])
    bank.extract(beam.Pipeline(), sample)
    assert {*read_rows(bank.features, "train", 2).hashes.astype(str)} == sample


def _chosen(folder: Path, labels: np.ndarray, larger: Sequence[int] = ()) -> tuple[str, dict]:
    """Choose the features of a bank of these labels; return the bank's folder and its facts."""
    store = folder / "store"
    others = (
        _plan(network_settings(_SEVERAL_MAPS, image_size=size), 1e12, store) for size in larger
    )
    bank = _bank(folder, labels)
    made = {"time": "2026-01-31 14:05:59", "images": _KEPT["train"]}
    bank.choose(beam.Pipeline(), _SEVERAL_MAPS, 2, others, lambda _, tried: made | {"tried": tried})
    return bank.features, records.read_json(f"{bank.features}/bank.json")


@pytest.mark.parametrize(
    ("labels", "sizes"), [(_HALF, [8, 10, 10]), (_NOISE, [8])], ids=["half", "noise"]
)
def test_the_head_reads_several_maps_where_they_help(tmp_path, monkeypatch, labels, sizes):
    """Noise in one half changes the variance of a map more than its mean."""
    monkeypatch.setattr(feature_choice, "FEWEST_MISTAKES", 0)
    uri, facts = _chosen(tmp_path, labels)
    assert facts["sizes"] == sizes
    assert facts["features"] == ("conv1" if sizes[1:] else "average")
    assert facts["image_size"] == 32
    assert [one["features"] for one in facts["decision"]["tried"]] == ["average", "conv1"]
    assert (facts["forward_passes"], facts["reused"]) == (68, 0), "the sample is not repeated"
    assert read_rows(uri, "train", 2).features.shape == (60, sum(sizes))
    assert not Path(uri, "sample").exists()


@pytest.mark.parametrize("chosen", [48, 64])
def test_larger_images_are_used_where_they_make_the_head_better(tmp_path, monkeypatch, chosen):
    """Every judgement up to that of the chosen size is made to count as better than any other."""
    answers = [True, True, chosen == 64]
    monkeypatch.setattr(feature_choice, "better", lambda new, old, chance: answers.pop(0))
    uri, facts = _chosen(tmp_path, _NOISE, larger=[48, 64])
    assert [one["image_size"] for one in facts["decision"]["tried"]] == [32, 32, 48, 64]
    assert facts["image_size"] == chosen
    assert len(read_rows(uri, "validation", 2)) == 4


@pytest.mark.parametrize(
    ("kept", "sizes", "columns"),
    [
        ("class_token", (3,), slice(0, 3)),
        ("average", (5,), slice(3, 8)),
        ("tokens", (3, 5), slice(0, 8)),
        ("", (3, 5), slice(0, 8)),
    ],
)
def test_records_have_the_blocks_that_the_head_reads(kept, sizes, columns):
    """The first block is the class token, and the second one the mean of the patches."""
    network = BankNetwork(network_settings(_SETTINGS, features="tokens"), "float32")
    plan = StoragePlan(network, "store", 0, (3, 5), kept=kept)
    assert (plan.recorded, plan.columns, plan.read) == (sizes, columns, kept or "tokens")


def test_a_replaced_file_of_weights_gives_another_extractor(tmp_path, monkeypatch):
    """In a notebook, two runs share a process, and the second may have other weights."""
    keys = iter(["first", "first", "second"])
    monkeypatch.setattr(FeatureExtractor, "key", lambda *_: next(keys))
    network = BankNetwork(_SETTINGS, "float32")
    first = shared_extractor(network)
    assert shared_extractor(network) is first
    assert shared_extractor(network) is not first


def test_a_larger_size_is_left_after_a_part_that_promises_no_gain(tmp_path, monkeypatch):
    """Whether it promises one is set here; `test_feature_choice` has tests of it."""
    monkeypatch.setattr(feature_choice, "better", lambda *_: False)
    monkeypatch.setattr(feature_choice, "_LEAST_PART", 15)
    passes = {}
    for promises in (False, True):
        monkeypatch.setattr(feature_choice, "may_be_better", lambda *_, it=promises: it)
        _, facts = _chosen(tmp_path / str(promises), _NOISE, larger=[48])
        assert facts["image_size"] == 32
        passes[promises] = (facts["forward_passes"], facts["reused"])
    assert passes == {False: (68 + 15, 0), True: (68 + 60, 0)}, "the part is not repeated"
