"""Tests that overrides change the key of a run and are checked before the run starts."""

from __future__ import annotations

import pytest
from PIL import Image

from imgpipe.components.example_gen.sources.base import Item, Scan
from imgpipe.components.image_filter.judge import overrides
from imgpipe.components.image_filter.judge.overrides import Override
from imgpipe.components.image_filter.settings import FilterPlan
from imgpipe.components.model_pusher.settings import PusherPlan
from imgpipe.models.errors import ConfigError
from imgpipe.pipeline.configuration import config as configs
from imgpipe.pipeline.configuration.places import DECISIONS
from imgpipe.pipeline.definition import plan
from imgpipe.pipeline.images import source
from tests.images import class_folders

SCAN = Scan("photos", (Item("a/1.jpg", "a", sha256="0" * 64),), ("a", "b"), fingerprint="f")


def run_key(found: plan.Plan) -> str:
    """Return the fingerprint of a run, which its published version keeps."""
    return str(PusherPlan.from_json(found.pusher).facts["run_key"])


@pytest.fixture
def find(tmp_path):
    """Return a function that gives the inputs of a run with certain overrides and settings."""

    def make(*decisions, place=DECISIONS, settings=()):
        file = tmp_path / "out" / place
        file.parent.mkdir(exist_ok=True)
        file.write_text(overrides.to_toml(decisions), encoding="utf-8")
        chosen = [] if place == DECISIONS else [f"judge.overrides={file}"]
        config = configs.build({"run": {"out": str(tmp_path / "out")}}, [*chosen, *settings])
        return plan.make(config, SCAN, overrides.load(config.places.overrides))

    return make


def test_an_override_changes_the_run_key_but_its_note_does_not(find):
    none, decided = find(), find(Override("0" * 64, "accept"))
    assert FilterPlan.from_json(none.image_filter).overrides == ()
    given = FilterPlan.from_json(decided.image_filter).overrides
    assert given == (Override("0" * 64, "accept"),)
    assert run_key(none) != run_key(decided)
    moved = find(Override("0" * 64, "accept", note="seen", path="a/1.jpg"), place="other.toml")
    assert run_key(moved) == run_key(decided) and moved.image_filter == decided.image_filter


def test_the_place_of_the_inspection_cache_does_not_change_the_run_key(find):
    assert run_key(find()) == run_key(find(settings=["judge.store=elsewhere"]))
    assert run_key(find()) != run_key(find(settings=["judge.severity.dark=reject"]))


def test_an_override_to_an_unknown_class_is_refused_before_the_run(find):
    with pytest.raises(ConfigError, match="relabels 1 image to 'c', which is not a class"):
        find(Override("0" * 64, "relabel", "c"))


def test_a_missing_file_of_overrides_is_refused_before_the_run(tmp_path):
    drawn = {label: [Image.new("RGB", (40, 40))] for label in "ab"}
    photos = class_folders(tmp_path / "photos", drawn)
    missing = f"judge.overrides={tmp_path / 'none.toml'}"
    config = configs.build({"data": {"source": str(photos)}}, [missing])
    with pytest.raises(ConfigError, match=r"cannot read .*none\.toml"):
        source.usable(config)
