"""Tests that ``--json -`` writes the declared JSON, and nothing else, to standard output."""

from __future__ import annotations

import json
import typing
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from imgpipe.pipeline.application import app
from imgpipe.pipeline.demo import draw_hand
from imgpipe.pipeline.json_formats import FORMATS
from tests import json_formats
from tests.images import class_folders
from tests.pipeline import small_version
from tests.pipeline.past_runs import leave


def answer(command: str, *arguments: object) -> Any:
    """Run a command and return the JSON on its standard output, which must have its format."""
    words = [*command.split(), *map(str, arguments), "--json", "-"]
    result = CliRunner().invoke(app, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    found = json.loads(result.stdout)
    json_formats.conform(command, found)
    return found


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder with three images of each of two classes."""
    classes = small_version.CLASSES
    drawn = {label: [draw_hand(label, seed=n, size=64) for n in range(3)] for label in classes}
    return class_folders(tmp_path / "photos", drawn)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return a folder with a run that published version 1 and a later one without a version."""
    leave(tmp_path / "out", "20260101-100000", version=1)
    leave(tmp_path / "out", "20260102-100000", status="not_blessed")
    (tmp_path / "out" / "model" / "1").mkdir(parents=True)
    return tmp_path / "out"


def _leaves(group: Any, prefix: str = "") -> dict[str, Any]:
    """Return all commands that are no groups, by their full names."""
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        if getattr(command, "commands", None):
            found |= _leaves(command, f"{prefix}{name} ")
        else:
            found[f"{prefix}{name}"] = command
    return found


def test_every_command_has_json_with_a_schema_number() -> None:
    commands = _leaves(typer.main.get_command(app))
    with_json = {
        name
        for name, command in commands.items()
        if any("--json" in parameter.opts for parameter in command.params)
    }
    assert with_json == set(FORMATS) == commands.keys()
    for command, kind in FORMATS.items():
        one = typing.get_args(kind)[0] if typing.get_origin(kind) is list else kind
        assert "schema" in one.__required_keys__, command


def test_conform_compares_every_field() -> None:
    good = {"schema": 1, "page": "p", "opened": True}
    json_formats.conform("open", good)
    for bad, words in (
        ({**good, "more": 1}, "open.more is not declared"),
        ({"schema": 1, "page": "p"}, "open.opened is missing"),
        ({**good, "opened": 1}, "open.opened: 1 is no <class 'bool'>"),
        ([good], "is no object"),
    ):
        with pytest.raises(AssertionError, match=words):
            json_formats.conform("open", bad)


def test_init_reports_what_it_wrote(photos: Path, tmp_path: Path) -> None:
    found = answer("init", photos, "-o", tmp_path / "c.toml")
    assert (found["file"], found["images"]) == (str(tmp_path / "c.toml"), 6)
    assert found["classes"] == {"paper": 3, "rock": 3} and (tmp_path / "c.toml").is_file()


@pytest.mark.parametrize("place", ["", "model", "model/1", "runs/20260102-100000"])
def test_open_finds_the_report_from_any_folder_of_a_run(
    out: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    found = answer("open", out / place)
    run = "20260101-100000" if place == "model/1" else "20260102-100000"
    assert found == {"schema": 1, "page": f"{out}/runs/{run}/report.html", "opened": False}


def test_a_review_without_questions_ends_at_once(out: Path, photos: Path) -> None:
    folder = leave(out, "20260103-100000", settings=(f"data.source={json.dumps(str(photos))}",))
    (folder / "facts.json").write_text("{}")
    found = answer("review", out)
    assert (found["run"], found["images"], found["decided"]) == ("20260103-100000", 0, 0)
    assert found["file"] == str(out / "overrides.toml") and "judge.overrides=" in found["apply"]


def test_explain_reports_its_files_its_layers_and_its_errors(photos: Path, tmp_path: Path) -> None:
    version = small_version.push(tmp_path / "pushed")
    (photos / "rock" / "notes.jpg").write_text("no image")
    image, text = photos / "rock" / "0.png", photos / "rock" / "notes.jpg"
    found = answer(
        "explain", image, text, "--model", version, "--layers", "--to", tmp_path / "drawn"
    )
    drawn, refused = found["images"]
    assert drawn["label"] == drawn["top"][0]["label"] and refused.keys() == {"image", "error"}
    assert all(Path(file).is_file() for file in drawn["files"])
    assert [layer["name"] for layer in found["layers"]][-1] and found["model"] == str(version)
