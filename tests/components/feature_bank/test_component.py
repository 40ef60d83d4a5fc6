"""What the feature bank stores within its budget.

That is features, with as many views as fit, or nothing.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import apache_beam as beam
import numpy as np
import pytest

from imgpipe.components.feature_bank import extraction
from imgpipe.components.feature_bank.content import (
    bytes_of,
    free_budget,
    make_plan,
    shared_extractor,
)
from imgpipe.components.feature_bank.extraction import Bank, helpful_views
from imgpipe.components.storage import records
from imgpipe.models import feature_names as names
from imgpipe.models import progress
from imgpipe.models.augmentation import ViewSpec
from imgpipe.models.features.bank import read_rows
from imgpipe.models.features.extractor import FeatureExtractor, describe
from imgpipe.models.head.answers import Scores
from imgpipe.models.settings import FineTune, ModelSettings
from tests.images import encoded

_KEPT = {"train": 100, "validation": 10, "test": 10}
_ROWS, _IMAGES = 100 * 3 + 20, 120
_SETTINGS = ModelSettings(
    backbone="conv_4_8",
    weights="none",
    freeze="all",
    image_size=32,
    views=ViewSpec(count=2),
)
_DIM = 8


def _plan(settings: ModelSettings, budget: float, store: Path):
    """Plan a feature bank of `budget` bytes with its store in this folder."""
    return make_plan(describe(settings, "float32"), str(store), _KEPT, budget)


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
def test_as_much_as_fits_the_budget_is_stored(tmp_path, budget, dim, views, said) -> None:
    plan, note = _plan(_SETTINGS, budget, tmp_path)
    assert (plan.dim, plan.views) == (dim, views)
    assert said in note
    assert bool(note) == bool(said)


def test_without_a_budget_a_quarter_of_the_free_disk_is_used(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=6_000_000))
    assert free_budget(str(tmp_path / "new"), str(tmp_path)) == 1_500_000


def test_features_of_a_backbone_that_is_trained_are_not_stored(tmp_path) -> None:
    trains = replace(_SETTINGS, freeze="auto")
    plan, note = _plan(trains, 1e12, tmp_path)
    assert plan.dim == 0
    assert note == "the backbone itself is trained, so that images are read"


def _examples(folder: Path, labels: np.ndarray) -> str:
    """Write an Examples artifact of bright and dark images and return its URI.

    Every second image is bright. The classes are `labels`, which agree with the brightness or not.
    """
    uri = str(folder / "examples")
    draw = np.random.default_rng(0)
    for split, count in (("train", len(labels)), ("validation", 4), ("test", 4)):
        paths = {split: records.shard_path(uri, split, 0, 1)}
        with records.ShardWriter(paths) as writer:
            for i in range(count):
                label = int(labels[i])
                bright = draw.integers(0, 120, (32, 32, 3)) + 100 * (i % 2)
                image = encoded(bright.astype(np.uint8))
                values = {
                    names.SPLIT: split,
                    names.IMAGE_BYTES: image,
                    names.IMAGE_HASH: hashlib.sha256(image).hexdigest(),
                    names.PATH: f"{i}.png",
                    names.LABEL_INDEX: label,
                }
                writer.write(split, records.make(values))
    return uri


_NOISE = np.random.default_rng(1).integers(0, 2, 60)


def _chosen(folder: Path, labels: np.ndarray, mode: str) -> tuple[str, dict]:
    """Choose the views of a bank of these labels; return the bank's folder and its facts."""
    settings = replace(_SETTINGS, fine_tune=FineTune(mode=mode))
    plan, _ = make_plan(describe(settings, "float32"), str(folder / "store"), _KEPT, 1e12)
    uri = str(folder / "features")
    bank = Bank(plan, _examples(folder, labels), uri, _KEPT, {"dim": _DIM})
    bank.choose_views(beam.Pipeline(), settings, 2)
    return uri, records.read_json(f"{uri}/bank.json")


@pytest.mark.parametrize(
    ("labels", "mode", "made"),
    [(np.arange(60) % 2, "off", 0), (_NOISE, "off", 1), (_NOISE, FineTune().mode, 0)],
    ids=["nothing left to gain", "noise", "a search will replace the head"],
)
def test_views_that_do_not_improve_the_head_are_not_in_the_bank(
    tmp_path, labels, mode, made
) -> None:
    uri, facts = _chosen(tmp_path, labels, mode)
    assert facts["views"] == 0
    assert facts["bytes"] == bytes_of(_KEPT, 0, _DIM), "only what was kept"
    assert len(facts["views_accuracy"]) == 1
    assert facts["forward_passes"] + facts["reused"] == 68 + 60 * made
    rows = read_rows(uri, "train", 2)
    assert rows.views.max() == 0
    assert len(rows) == 60


@pytest.mark.parametrize(
    ("right", "validation", "made"),
    [(970, 400, [0, 1]), (985, 400, [0]), (900, 400, [0]), (900, 30, [0, 1])],
)
def test_views_are_made_only_where_they_can_make_a_search_unnecessary(
    right, validation, made
) -> None:
    """The head is good enough from 980 of 1,000 on; 900 cannot be chance.

    On 30 validation images, a search tries nothing, because it could not tell a gain from chance.
    """
    flags = np.arange(1000) < right
    asked = []

    def judged(view: int) -> Scores:
        asked.append(view)
        return Scores(np.where(flags, 0.1, 3.0).astype(np.float32), flags)

    assert len(helpful_views(judged, 4, ModelSettings(), validation)) == 1
    assert asked == made


def test_views_that_improve_the_head_stay_in_the_bank(tmp_path, monkeypatch) -> None:
    """Every judgement is made to count as better than any other.

    Heads judge a second view of the same pixels as no better.
    """
    counted: Counter[str] = Counter()
    monkeypatch.setattr(progress, "advance", lambda n, unit: counted.update({unit: n}))
    monkeypatch.setattr(extraction, "better", lambda new, old: True)
    uri, facts = _chosen(tmp_path, _NOISE, "off")
    assert (facts["views"], len(facts["views_accuracy"])) == (2, 3)
    assert counted["images"] == 68, "each image once, not once for each view"
    assert np.bincount(read_rows(uri, "train", 2).views).tolist() == [60, 60, 60]
    assert len(read_rows(uri, "validation", 2)) == 4


def test_a_replaced_file_of_weights_gives_another_extractor(tmp_path, monkeypatch) -> None:
    """In a notebook, two runs share a process, and the second may have other weights."""
    keys = iter(["first", "first", "second"])
    monkeypatch.setattr(FeatureExtractor, "key", lambda *_: next(keys))
    network = describe(_SETTINGS, "float32")
    first = shared_extractor(network)
    assert shared_extractor(network) is first
    assert shared_extractor(network) is not first
