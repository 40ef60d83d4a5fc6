"""LiteRT files in a published version.

They are stored beside the SavedModel, compared apart from it, and rolled back with it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imgpipe.components.model_pusher import component
from imgpipe.components.storage import manifest
from imgpipe.pipeline.commands import rollback

YES = {"model": True, "serving": True}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Return the folder of the versions."""
    return tmp_path / "model"


@pytest.fixture
def model(tmp_path: Path):
    """Return a function (weights) → the folder of an export whose digest is `weights`.

    The bytes of its graph differ with each call.
    """
    made = iter(range(100))

    def make(weights: str) -> Path:
        folder = tmp_path / f"export{next(made)}"
        (folder / "assets.extra").mkdir(parents=True)
        (folder / "saved_model.pb").write_text(folder.name)
        (folder / manifest.MODEL_DIGEST).write_text(weights)
        return folder

    return make


@pytest.fixture
def lite(tmp_path: Path):
    """Return a function (kinds) → a folder of blessed LiteRT files.

    Their bytes differ with each call, and their digest depends on the kinds alone.
    """
    made = iter(range(100))

    def make(*kinds: str) -> Path:
        folder = tmp_path / f"lite{next(made)}" / "blessed"
        (folder / "assets.extra").mkdir(parents=True)
        for kind in kinds:
            (folder / f"{kind}.tflite").write_text(f"{folder}")
        (folder / manifest.LITE_DIGEST).write_text(json.dumps(sorted(kinds)))
        return folder

    return make


def _push(base: Path, model: Path, lite: Path | None = None, **gates: bool) -> str:
    """Push a model, with all gates passed unless given otherwise, and return the status."""
    return component.push(base, model, {}, YES | gates, {}, 9, lite)["status"]


def test_lite_files_are_stored_beside_the_saved_model_and_in_the_manifest(base, model, lite):
    assert _push(base, model("m"), lite("model", "model_float16")) == "pushed"
    version = manifest.latest(base)
    assert version.manifest["files"] == manifest.describe(version.path)
    assert set(version.manifest["files"]) == {
        *("saved_model.pb", "model.tflite", "model_float16.tflite"),
        *(manifest.MODEL_DIGEST, manifest.LITE_DIGEST, manifest.CARD),
    }


def test_a_missing_lite_folder_means_a_version_without_lite_files(base, model, tmp_path):
    assert _push(base, model("m"), tmp_path / "none") == "pushed"
    assert not list((base / "1").glob("*.tflite"))
    assert _push(base, model("m")) == "unchanged"


def test_a_model_with_a_changed_set_of_lite_files_is_pushed(base, model, lite):
    assert _push(base, model("m")) == "pushed"
    assert _push(base, model("m"), lite("model")) == "pushed"
    assert _push(base, model("m"), lite("model")) == "unchanged", "made alike, other bytes"
    assert _push(base, model("m"), lite("model", "model_float16")) == "pushed"
    assert _push(base, model("m")) == "pushed"
    assert manifest.version_numbers(base) == [1, 2, 3, 4]


def test_cross_validation_can_refuse_a_model(base, model):
    outcome = component.push(base, model("m"), {}, YES | {"cross_validation": False}, {}, 9)
    assert (outcome["status"], outcome["refused_by"]) == ("refused", ["cross_validation"])
    assert manifest.latest(base) is None


def test_a_withdrawn_model_is_refused_with_any_lite_files(base, model, lite):
    _push(base, model("good"))
    _push(base, model("bad"), lite("model"))
    rollback.rollback(base, None)
    assert _push(base, model("bad"), lite("model")) == "refused"
    assert _push(base, model("bad")) == "refused"
    assert _push(base, model("bad"), lite("model_float16")) == "refused"
    assert _push(base, model("good")) == "unchanged"
    assert _push(base, model("good"), lite("model")) == "pushed"


def test_withdrawing_lite_files_does_not_withdraw_the_model(base, model, lite):
    _push(base, model("m"))
    _push(base, model("m"), lite("model"))
    rollback.rollback(base, None)
    assert not (base / "3" / "model.tflite").exists()
    assert _push(base, model("m")) == "unchanged"
    assert _push(base, model("m"), lite("model")) == "refused"
    assert manifest.baseline_for(base, "another run").number == 3


def test_rolling_back_a_version_without_lite_files_restores_them(base, model, lite):
    _push(base, model("m"), lite("model"))
    _push(base, model("m"))
    rollback.rollback(base, None)
    assert (base / "3" / "model.tflite").exists()
    assert _push(base, model("m"), lite("model")) == "unchanged"
    assert _push(base, model("m")) == "refused"
