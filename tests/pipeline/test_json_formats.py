"""Tests that ``--json -`` writes the declared JSON, and nothing else, to standard output."""

from __future__ import annotations

import json
import re
import typing
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from imgpipe.components.data_gate import rules
from imgpipe.components.data_gate import schema as schemas
from imgpipe.models.errors import ConfigError, ResourceError
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


@pytest.mark.parametrize("place", ["", "model", "model/1", "runs/20260102-100000"])
def test_schema_takes_any_folder_of_a_run(out: Path, place: str) -> None:
    with pytest.raises(ConfigError, match=f"no schema was accepted yet: {out}/schema"):
        answer("schema show", out / place)
    with pytest.raises(ConfigError, match=f"the last run in {out} did not reach the data gate"):
        answer("schema accept", "--out", out / place)


def test_a_run_that_is_not_there_is_refused_and_no_other_schema_is_used(out: Path) -> None:
    with pytest.raises(ResourceError, match=r"20260105-000000"):
        answer("schema accept", "--out", out / "runs" / "20260105-000000")


def test_schema_accept_names_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"no run in {tmp_path} has reached the data gate yet"):
        answer("schema accept", "--out", tmp_path)


def test_schema_accept_and_show_report_the_schema(out: Path) -> None:
    from tensorflow_metadata.proto.v0 import schema_pb2

    wanted = schema_pb2.Schema()
    wanted.string_domain.add(name="labels", value=["cat", "dog"])
    label = wanted.feature.add(name="label", domain="labels")
    label.presence.min_fraction = 1.0
    label.drift_comparator.infinity_norm.threshold = 0.25
    wanted.feature.add(name="width")
    (out / "schema").mkdir()
    schemas.write(wanted, str(out / "schema" / "schema.pbtxt"))
    drift = {"kind": "drift", "subject": "brightness", "split": "train", "expected": "e"}
    reason = {**drift, "seen": "s", "advice": "a", "sentence": "drift in brightness"}
    few = {**reason, "kind": "too_few", "subject": "cat", "sentence": "too few cats"}
    decision = {"statistics": "s", "fingerprint": "f" * 64, "vocabulary": ["cat", "dog"]}
    (out / "gate.json").write_text(json.dumps({**decision, "reasons": [reason, few]}))
    told = re.search("run imgpipe (.+) OUT with", rules.ACCEPT)  # as the refused run says
    assert told is not None
    accepted = answer(told[1], out)
    assert accepted["accepted"] == [{**drift, "seen": "s"}]
    assert [one["subject"] for one in accepted["not_acceptable"]] == ["cat"]
    shown = answer("schema show", out / "model" / "1")
    assert shown["accepted_data"] == ["f" * 64]
    first, second = shown["features"]
    assert (first["values"], first["required"], first["drift_limit"]) == (
        ["cat", "dog"],
        True,
        0.25,
    )
    assert (second["values"], second["required"], second["skew_limit"]) == (None, False, None)


@pytest.mark.parametrize("values", [["train", "validation", "test"], ["paper", "rock"], None])
def test_the_table_of_the_schema_fits_a_narrow_terminal(values: list[str] | None) -> None:
    from rich.console import Console

    from imgpipe.pipeline.commands import schema

    limits = {"required": True, "drift_limit": 0.3, "skew_limit": 0.3}
    names = ("brightness_p99", "brightness_p5", "split")
    features = [{"name": name, "values": values, **limits} for name in names]
    console = Console(width=60)
    with console.capture() as captured:
        console.print(schema.table_of(features))
    lines = [line.rstrip() for line in captured.get().splitlines()]
    assert max(map(len, lines)) <= 60
    assert {line.split()[0] for line in lines} >= set(names)
    assert all(any(value in line for line in lines) for value in values or ["any"])


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
