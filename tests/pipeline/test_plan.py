"""Tests that Plan determines in a task what the local runner knows before it builds the graph."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from imgpipe.components.data_gate import accepted
from imgpipe.models.errors import ConfigError
from imgpipe.pipeline import plan as plans
from imgpipe.pipeline.configuration import config as configs
from imgpipe.pipeline.source import scan
from tests.images import class_folders


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder with one image of each of two classes."""
    sizes = {"a": (40, 40), "b": (40, 41)}
    drawn = {label: [Image.new("RGB", size)] for label, size in sizes.items()}
    return class_folders(tmp_path / "photos", drawn)


@pytest.fixture
def config(photos: Path, tmp_path: Path) -> configs.Config:
    """Return the configuration of a run on these images."""
    return configs.build({"data": {"source": str(photos)}, "run": {"out": str(tmp_path / "out")}})


def _planned(config: configs.Config, **given: Any) -> dict[str, Any]:
    """Return what Plan determines, with some parameters of the pipeline replaced."""
    return plans.plan(plans.to_json(config), {**plans.settings(config), **given})


def test_plan_determines_what_the_local_runner_knows(config: configs.Config):
    known = plans.make(config, scan(config))
    assert _planned(config) == asdict(known) == json.loads(known.to_json())


def test_parameters_of_a_run_change_what_depends_on_them(config: configs.Config):
    before = _planned(config)
    after = _planned(config, threshold=0.75, epochs=3, image_size=64)
    assert json.loads(after["training"])["model"]["epochs"] == 3
    assert json.loads(after["network"])["model"]["image_size"] == 64
    assert json.loads(after["report_settings"])["changed"]["evaluate.threshold"] == 0.75
    keys = [json.loads(values["facts"])["run_key"] for values in (before, after)]
    assert keys[0] != keys[1]
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {
        *("network", "weights_key", "training"),
        *("evaluate", "facts", "report_settings"),
    }


def test_new_images_change_the_fingerprint(config: configs.Config, photos: Path):
    before = _planned(config)
    Image.new("RGB", (50, 50)).save(photos / "a" / "2.png")
    after = _planned(config)
    assert after["fingerprint"] != before["fingerprint"]
    assert after["network"] == before["network"]


def test_a_wrong_parameter_of_a_run_is_named(config: configs.Config):
    with pytest.raises(ConfigError, match=r"evaluate\.threshold: .* Received: 2") as raised:
        _planned(config, threshold=2.0)
    assert str(raised.value).startswith("the parameters of the pipeline: ")


def test_the_accepted_schema_is_part_of_the_plan(config: configs.Config):
    assert _planned(config)["accepted_schema"] == ""
    config.schema_file.parent.mkdir(parents=True)
    text = 'feature { name: "label" }\n'
    config.schema_file.write_text(text)
    found = _planned(config)
    assert found["accepted_schema"] == text and found["accept_changes"] == 0
    judged_by = {name: found[name] for name in ("accepted_schema", "accepted_data")}
    judged_by["accept_changes"] = 1
    accepted.write(config.schema_file, found["data_key"], {"a": 1, "b": 1}, judged_by)
    assert _planned(config) == found | judged_by, "what was accepted stays so"
