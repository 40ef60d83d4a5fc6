"""The command ``imgpipe deploy``: its files, messages and exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from imgpipe.models.errors import ConfigError
from imgpipe.pipeline.application import app


def deploy(*arguments: object):
    return CliRunner().invoke(app, ["deploy", *map(str, arguments)])


def test_the_written_files_follow_the_configuration(tmp_path: Path):
    config = tmp_path / "c.toml"
    config.write_text(f'[run]\nname = "hands"\nout = "{tmp_path}/out"\n')
    out = tmp_path / "made" / "compose"
    result = deploy("compose", config, "--to", out, "--cpus", 4, "--memory", 3)
    assert result.exit_code == 0, result.output
    assert {path.name for path in out.iterdir()} == {
        "docker-compose.yaml",
        "models.config",
        "batching.config",
        "monitoring.config",
    }
    compose = (out / "docker-compose.yaml").read_text()
    assert "imgpipe predict IMAGE --server localhost:8500 --model hands" in compose
    service = yaml.safe_load(compose)["services"]["hands"]
    assert service["volumes"][0]["source"] == f"{tmp_path}/out/model"
    assert service["deploy"]["resources"]["limits"] == {"cpus": "4", "memory": "3G"}
    assert "does not exist yet" in result.output
    assert 'name: "hands"' in (out / "models.config").read_text()


def test_existing_files_are_overwritten_only_with_force(tmp_path: Path):
    assert deploy("kserve", "--to", tmp_path, "--replicas", "1").exit_code == 0
    result = deploy("kserve", "--to", tmp_path)
    assert isinstance(result.exception, ConfigError)
    assert "already holds inference-service.yaml" in str(result.exception)
    assert deploy("kserve", "--to", tmp_path, "--force", "--claim", "c").exit_code == 0
    text = (tmp_path / "inference-service.yaml").read_text()
    assert "storageUri: pvc://c/imgpipe" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("swarm",), "deploy: expected one of compose, kubernetes, kserve. Received: 'swarm'"),
        (("kserve", "--replicas", "few"), "a number or a range such as 2-8"),
        (("kserve", "--replicas", "4-2"), "not below the smallest"),
        (("kserve", "--set", "run.name=ü"), "run.name"),
        (("kserve", "nowhere.toml"), "cannot read config nowhere.toml"),
        (("compose", "imgpipe-uot"), "there is no folder, no configuration file and no preset"),
    ],
)
def test_invalid_arguments_are_refused_and_write_nothing(tmp_path: Path, arguments, words):
    result = deploy(*arguments, "--to", tmp_path / "out")
    assert isinstance(result.exception, ConfigError), result.output
    assert words in str(result.exception)
    assert result.exception.exit_code == 2
    assert not (tmp_path / "out").exists()
