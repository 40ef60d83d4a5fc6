"""Tests of the training benchmark: its recipes are valid, and its subsets do not overlap."""

from pathlib import Path

import pytest

from benchmarks import training
from imgpipe.pipeline.configuration import config


@pytest.mark.parametrize("name", [*training.TASKS, training.FEW])
def test_every_recipe_is_a_valid_configuration(name: str) -> None:
    made = config.load(training.RECIPES / f"{name}.toml")
    pattern = made.data.group_pattern if name == "rps_photos_defaults" else ""
    defaults = config.build({"data": {"group_pattern": pattern}})
    assert (made == defaults) is name.endswith("_defaults")


def test_every_recipe_belongs_to_a_task() -> None:
    written = {path.stem for path in training.RECIPES.glob("*.toml")}
    assert written == {*training.TASKS, training.FEW}


def test_splits_of_a_drawn_subset_do_not_overlap(tmp_path: Path) -> None:
    images = tmp_path / "all"
    for label in ("cat", "dog"):
        (images / label).mkdir(parents=True)
        for number in range(100):
            (images / label / f"{number}.jpg").write_text(f"{label} {number}")
    drawn = {}
    for seed in (0, 1):
        target = training.draw_subset(images, 10, seed, tmp_path / str(seed))
        for split, count in (("train", 8), ("validation", 2), ("test", training.FEW_TESTED)):
            for label in ("cat", "dog"):
                assert len(list((target / split / label).iterdir())) == count
        contents = [path.read_text() for path in target.glob("*/*/*")]
        assert len(contents) == len(set(contents))
        drawn[seed] = sorted(path.read_text() for path in target.glob("train/*/*"))
    assert drawn[0] != drawn[1]
