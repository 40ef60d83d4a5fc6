"""Tests that `imgpipe doctor` names each fault of an output folder and what to do about it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from imgpipe.components.model_pusher import versions
from imgpipe.components.storage import blob_store, integrity
from imgpipe.pipeline.commands import doctor
from imgpipe.pipeline.configuration import config as configs
from imgpipe.pipeline.output import metadata_file, output_folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return an output folder with two versions, one artifact and a store."""
    folder, export = tmp_path / "out", tmp_path / "export"
    export.mkdir()
    for content in (b"one", b"two"):
        (export / "saved_model.pb").write_bytes(content)
        versions.publish(folder / "model", {"": export}, {})
    artifact = folder / "artifacts" / "DataGate" / "blessing" / "4"
    artifact.mkdir(parents=True)
    (artifact / "gate.json").write_text("{}")
    integrity.seal(artifact)
    store = blob_store.BlobStore(folder / "bank", "features")
    store.put({bytes([number]) * 32: b"value" * 100 for number in range(100)})
    return folder


def findings(out: Path) -> dict[str, tuple[bool, str]]:
    """Return whether each check of an output folder passes, and its detail, by name."""
    found = [look(out) for look in output_folder.CHECKS]
    return {finding.name: (finding.fit, finding.detail) for finding in found}


def run_that_published(out: Path, version: int) -> None:
    """Write the summary of a run that published a version."""
    folder = out / "runs" / "20260101-000000"
    folder.mkdir(parents=True)
    (folder / "config.toml").touch()
    push = {"status": "pushed", "version": str(version), "path": str(out / "model")}
    summary = {"status": "blessed", "verdict": "blessed", "push": push}
    (folder / "summary.json").write_text(json.dumps(summary))


def test_an_intact_folder_has_no_fault(out: Path):
    assert findings(out) == {
        "folders": (True, "can be used"),
        "metadata": (True, "none yet"),
        "served versions": (True, f"2 intact in {out / 'model'}"),
        "last push": (True, "none yet"),
        "artifacts": (True, "1 intact"),
        "schema": (True, "none yet"),
        "stores": (True, "can be used"),
    }


def test_a_missing_folder_has_no_fault(tmp_path: Path):
    assert all(fit for fit, _ in findings(tmp_path / "none").values())


def test_the_folders_in_the_configuration_of_the_newest_run_are_checked(out: Path, tmp_path: Path):
    config = configs.build({"push": {"directory": str(tmp_path / "served")}})
    (out / "runs" / "20260101-000000").mkdir(parents=True)
    file = out / "runs" / "20260101-000000" / "config.toml"
    file.write_text(configs.to_toml(config))
    (out / "model").rename(tmp_path / "served")
    assert findings(out)["served versions"] == (True, f"2 intact in {tmp_path / 'served'}")
    (tmp_path / "served" / "1" / "saved_model.pb").write_bytes(b"onE")
    assert "version 1: saved_model.pb has changed" in findings(out)["served versions"][1]


def test_default_folders_are_checked_if_the_configuration_cannot_be_read(out: Path):
    (out / "runs" / "20260101-000000").mkdir(parents=True)
    (out / "runs" / "20260101-000000" / "config.toml").write_text("[push")
    assert findings(out)["served versions"] == (True, f"2 intact in {out / 'model'}")


def test_every_fault_is_named(out: Path):
    (out / "model" / "1" / "saved_model.pb").write_bytes(b"onE")
    (out / "artifacts/DataGate/blessing/4/gate.json").write_text("[]")
    (out / metadata_file.NAME).write_bytes(b"garbage" * 1000)
    (out / "schema").mkdir()
    (out / "schema" / "schema.pbtxt").write_bytes(b"\xff\xfegarbage")
    run_that_published(out, 3)
    found = findings(out)
    assert {name for name, (fit, _) in found.items() if fit} == {"folders", "stores"}
    assert f"{out / 'model' / '3'} is missing; the run 20260101-000000" in found["last push"][1]
    assert "schema.pbtxt is not a schema in protobuf's text format" in found["schema"][1]
    assert "version 1: saved_model.pb has changed" in found["served versions"][1]
    assert "blessing/4: gate.json has changed since it was written" in found["artifacts"][1]
    assert "metadata.sqlite is damaged: file is not a database" in found["metadata"][1]
    with pytest.raises(typer.Exit, match=r"^5$"):
        doctor.doctor(out)


def test_a_store_that_cannot_be_written_is_named(out: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(output_folder.os, "access", lambda path, mode: path.name != "bank")
    found = output_folder.stores(out)
    assert found.fatal and not found.fit
    assert found.detail == f"{out / 'bank'} cannot be written"
    assert found.advice.startswith("Change its permissions")


def test_an_existing_last_published_version_is_no_fault(out: Path):
    run_that_published(out, 2)
    assert findings(out)["last push"] == (True, f"{out / 'model' / '2'} is there")


@pytest.mark.parametrize("name", ["runs", "artifacts", "model"])
def test_a_file_in_the_way_of_a_folder_is_named(tmp_path: Path, name: str):
    (tmp_path / name).touch()
    assert findings(tmp_path)["folders"] == (
        False,
        f"{tmp_path / name} is a file, expected a folder",
    )
    with pytest.raises(typer.Exit, match=r"^5$"):
        doctor.doctor(tmp_path)
