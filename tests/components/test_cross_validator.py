"""When cross-validation decides instead of validation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from imgpipe.components import cross_validator as component
from imgpipe.components.storage import records
from imgpipe.models import feature_names as names

# TFX and TFMA warn about their own dependencies; none of these warnings can be fixed here.
pytestmark = pytest.mark.filterwarnings("ignore")

_DIM = 8


def _bank(folder: Path, validation: int, dim: int = _DIM, group: str = "") -> str:
    """Write a feature bank of two classes that are easily told apart, and return its folder.

    It holds 24 training images and `validation` validation images of `dim` features each.
    """
    draw = np.random.default_rng(1)
    for split, count in ((names.TRAIN, 24), (names.VALIDATION, validation)):
        with records.ShardWriter({split: records.shard_path(str(folder), split, 0, 1)}) as writer:
            for i in range(count):
                point = draw.normal(size=dim) + 4 * (i % 2)
                values = {
                    names.FEATURES: point.astype("<f2").tobytes(),
                    names.LABEL_INDEX: i % 2,
                    names.VIEW: 0,
                    names.IMAGE_HASH: f"{split[0]}{i}".encode().hex(),
                    names.GROUP: group,
                }
                writer.write(split, records.make(values))
    (folder / "bank.json").write_text(json.dumps({"sizes": [dim] if dim else []}))
    return str(folder)


def _found(bank: str, held_out: int, tuned: bool = False, **by_search: object) -> dict[str, object]:
    """Return what CrossValidator decides if it may choose between folds and validation."""
    return component.automatic_result(bank, 2, held_out, tuned, by_search)


@pytest.mark.parametrize(
    ("bank", "held_out", "tuned", "why"),
    [
        ({}, 200, False, "because it has 200 images"),
        ({}, 6, True, "evaluate only heads"),
        ({"dim": 0}, 6, False, "holds no features"),
        ({"group": "film"}, 6, False, "too few independent images for 5 folds"),
    ],
    ids=["enough", "fine-tuned", "no features", "one film"],
)
def test_validation_decides_otherwise_and_the_result_says_why(tmp_path, bank, held_out, tuned, why):
    found = _found(_bank(tmp_path, 6, **bank), held_out, tuned)
    assert found["decides"] is False
    assert why in str(found["why"])


def test_the_folds_of_the_search_decide_on_the_network_that_it_has_fine_tuned(tmp_path: Path):
    found = _found(_bank(tmp_path, 6), 6, tuned=True, folds=3, mean=0.75, images=30)
    assert (found["decides"], found["by_search"]) == (True, True)
    assert (found["folds"], found["mean"], found["alike_apart"]) == (3, 0.75, 0)
    more = _found(str(tmp_path), 200, tuned=True, folds=3, mean=0.75, images=30)
    assert more["decides"] is True, "some of them have no label, so that the search counted fewer"
