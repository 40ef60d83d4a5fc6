"""What the feature bank stores: everything, features alone, or nothing, by the budget."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from imgpipe.components.feature_bank.component import free_budget, make_plan
from imgpipe.models.augmentation import ViewSpec
from imgpipe.models.extractor import describe
from imgpipe.models.settings import FineTune, ModelSettings

_KEPT = {"train": 100, "validation": 10, "test": 10}
_ROWS, _IMAGES = 100 * 3 + 20, 120
_SETTINGS = ModelSettings(
    backbone="conv_4_8",
    weights="none",
    freeze="all",
    image_size=32,
    views=ViewSpec(count=2),
    fine_tune=FineTune(mode="on", cut="pool1"),
)
_DIM, _MAP = 8, 15 * 15 * 4


def _plan(settings: ModelSettings, budget: float, store: Path):
    return make_plan(describe(settings, "float32"), str(store), _KEPT, budget)


@pytest.mark.parametrize(
    ("budget", "dim", "maps", "views", "said"),
    [
        (2 * _ROWS * (_DIM + _MAP), _DIM, (15, 15, 4), 2, ""),
        (2 * _ROWS * (_DIM + _MAP) - 1, _DIM, (15, 15, 4), 1, "those of 1 augmented views"),
        (2 * _IMAGES * (_DIM + _MAP), _DIM, (15, 15, 4), 0, "those of 0 augmented views"),
        (2 * _IMAGES * (_DIM + _MAP) - 1, _DIM, (), 2, "are stored and no activations"),
        (2 * _ROWS * _DIM - 1, _DIM, (), 1, "those of 1 augmented views"),
        (2 * _IMAGES * _DIM - 1, 0, (), 2, "would take"),
    ],
    ids=["all", "a view less", "images", "features", "features of a view less", "nothing"],
)
def test_what_fits_the_budget_is_stored(tmp_path, budget, dim, maps, views, said) -> None:
    plan, note = _plan(_SETTINGS, budget, tmp_path)
    assert (plan.shapes.dim, plan.shapes.activations, plan.views) == (dim, maps, views)
    assert said in note
    assert bool(note) == bool(said)
    if note:
        assert note.startswith("features and activations would take 0.0 GiB, over bank.budget")


def test_the_budget_is_a_share_of_the_free_disk(tmp_path) -> None:
    store = tmp_path / "out" / "bank"
    free = shutil.disk_usage(tmp_path).free
    assert free_budget(str(store)) == pytest.approx(free / 4, rel=0.2)  # others write meanwhile
    assert not store.exists()


def test_a_backbone_that_trains_is_not_stored(tmp_path) -> None:
    trains = replace(_SETTINGS, freeze="auto", fine_tune=FineTune())
    plan, note = _plan(trains, 1e12, tmp_path)
    assert plan.shapes.dim == 0
    assert note == "the backbone itself is trained, so that images are read"
