"""Tests of ``imgpipe kubeflow submit`` against a fake of Kubeflow Pipelines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from imgpipe.models.errors import ConfigError, ImgpipeError, ResourceError
from imgpipe.pipeline.commands.kubeflow import app, submit
from tests.kubeflow.api_server import RUN, ApiServer, running

PARAMETERS = {
    "epochs": {"parameterType": "NUMBER_INTEGER", "defaultValue": 9, "isOptional": True},
    "threshold": {"parameterType": "NUMBER_DOUBLE", "defaultValue": 0.9, "isOptional": True},
    "source": {"parameterType": "STRING", "isOptional": True},
}
SPEC: dict[str, Any] = {
    "pipelineInfo": {"name": "photos"},
    "schemaVersion": "2.1.0",
    "defaultPipelineRoot": "minio://b/default",
    "root": {"dag": {"tasks": {}}, "inputDefinitions": {"parameters": PARAMETERS}},
}


@pytest.fixture
def server() -> Iterator[ApiServer]:
    """Return a running fake."""
    with running() as started:
        yield started


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path of a small compiled pipeline."""
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump_all([SPEC, {"platforms": {"kubernetes": {}}}]))
    return path


def _submit(server: ApiServer, file: Path, *more: str) -> Result:
    return CliRunner().invoke(app, ["submit", str(file), "--host", server.host, *more])


def _error(ended: Result) -> ImgpipeError:
    assert isinstance(ended.exception, ImgpipeError), ended.exception
    return ended.exception


def test_a_run_is_submitted_with_its_parameters_and_root(server: ApiServer, file: Path):
    given = ["--param", "epochs=12", "--param", "source=7", "--token", "secret\n"]
    ended = _submit(server, file, *given)
    assert ended.exit_code == 0, ended.output
    assert f"submitted the run {RUN} (photos 20" in ended.output
    runtime = server.posted["runtime_config"]
    # The API server of Kubeflow Pipelines 2.17 reads no default from the pipeline.
    parameters = {"epochs": 12, "source": "7"}
    assert runtime == {"parameters": parameters, "pipeline_root": "minio://b/default"}
    assert "kubernetes" in server.posted["pipeline_spec"]["platform_spec"]["platforms"]
    assert server.tokens == {"Bearer secret"}


@pytest.mark.parametrize("last", ["SUCCEEDED", "FAILED", "CANCELED"])
def test_waiting_ends_with_the_run(
    server: ApiServer, file: Path, last: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(submit.time, "sleep", lambda _: None)
    server.states = ["PENDING", "RUNNING", "RUNNING", last]
    ended = _submit(server, file, "--wait")
    assert ended.output.splitlines()[1:] == ["pending", "running", last.lower()]
    assert ended.exit_code == (last != "SUCCEEDED")
    if last == "FAILED":
        with pytest.raises(ImgpipeError, match=r"ended as failed\. The cause is in failure\.json"):
            raise _error(ended)


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        ((500, "InternalServerError: InvalidInputError: json: no field"), ConfigError),
        ((500, "Internal Server Error: no database"), ResourceError),
        ((403, "forbidden"), ResourceError),
    ],
)
def test_a_refusal_of_the_server_is_told(
    server: ApiServer, file: Path, refusal: tuple[int, str], error: type[ImgpipeError]
):
    server.refusal = refusal
    raised = _error(_submit(server, file))
    assert type(raised) is error and refusal[1] in str(raised)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("epoch=3", r"expected NAME=VALUE .*epochs, source, threshold"),
        ("epochs=many", "expected a number"),
    ],
)
def test_a_wrong_parameter_is_refused(server: ApiServer, file: Path, given: str, told: str):
    with pytest.raises(ConfigError, match=told):
        raise _error(_submit(server, file, "--param", given))


@pytest.mark.parametrize("content", ["", "a: [", "pipelineInfo: 1"])
def test_a_file_that_is_no_compiled_pipeline_is_refused(tmp_path: Path, content: str):
    (tmp_path / "other.yaml").write_text(content)
    with pytest.raises(ConfigError, match="is not a compiled pipeline"):
        submit.command(tmp_path / "other.yaml")


def test_a_server_that_does_not_answer_is_named(file: Path):
    with pytest.raises(ResourceError, match=r"no API server .* answers at http://127\.0\.0\.1:9"):
        submit.command(file, "http://127.0.0.1:9")
