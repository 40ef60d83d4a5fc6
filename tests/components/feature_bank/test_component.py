"""What the feature bank stores: everything, features alone, or nothing, by the budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from imgpipe.components.feature_bank.component import make_plan
from imgpipe.models.augmentation import ViewSpec
from imgpipe.models.extractor import describe
from imgpipe.models.settings import FineTune, ModelSettings

_KEPT = {"train": 100, "validation": 10, "test": 10}
_ROWS = 100 * 3 + 20
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
    ("budget", "dim", "maps", "said"),
    [
        (2 * _ROWS * (_DIM + _MAP), _DIM, (15, 15, 4), ""),
        (2 * _ROWS * (_DIM + _MAP) - 1, _DIM, (), "features and activations would take"),
        (2 * _ROWS * _DIM - 1, 0, (), "features would take"),
    ],
    ids=["all", "features", "nothing"],
)
def test_what_fits_the_budget_is_stored(tmp_path, budget, dim, maps, said) -> None:
    plan, note = _plan(_SETTINGS, budget, tmp_path)
    assert (plan.shapes.dim, plan.shapes.activations, plan.views) == (dim, maps, 2)
    assert note.startswith(said)
    assert bool(note) == bool(said)


def test_a_backbone_that_trains_is_not_stored(tmp_path) -> None:
    trains = replace(_SETTINGS, freeze="auto", fine_tune=FineTune())
    plan, note = _plan(trains, 1e12, tmp_path)
    assert plan.shapes.dim == 0
    assert note == "the backbone itself is trained, so that images are read"
