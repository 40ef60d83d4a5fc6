"""Tests of `imgpipe kubeflow submit` against a fake of Kubeflow Pipelines."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from imgpipe.components.run_record import verdict
from imgpipe.models.errors import ConfigError, DataRefused, ImgpipeError, ResourceError
from imgpipe.models.files import json_object
from imgpipe.pipeline.commands.kubeflow import app, submit
from imgpipe.pipeline.kubeflow import places
from tests import run_results
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
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    """Return a running fake, which is asked without pauses."""
    monkeypatch.setattr("kfp.client.client.time.sleep", lambda _: None)
    with running() as started:
        yield started


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path of a small compiled pipeline."""
    path = tmp_path / "pipeline.yaml"
    container = {"args": ["--run_directory", f"{tmp_path}/out/runs/{places.RUN}"]}
    executors = {"deploymentSpec": {"executors": {"exec-plan": {"container": container}}}}
    path.write_text(yaml.safe_dump_all([SPEC | executors, {"platforms": {"kubernetes": {}}}]))
    return path


def _run_folder(file: Path, name: str, content: object) -> None:
    """Write a file of the folder of the run, as a task does on a volume that both mount."""
    json_object.write(file.parent / "out" / "runs" / RUN / name, content)


def _submit(server: ApiServer, file: Path, *more: str) -> Result:
    return CliRunner().invoke(app, ["submit", str(file), "--host", server.host, *more])


def _error(ended: Result) -> ImgpipeError:
    assert isinstance(ended.exception, ImgpipeError), ended.exception
    return ended.exception


def test_a_run_is_submitted_with_its_parameters_and_root(server: ApiServer, file: Path):
    given = ["--param", "epochs=12", "--param", "source=7", "--token", "secret"]
    ended = _submit(server, file, *given)
    assert ended.exit_code == 0, ended.output
    words = " ".join(ended.output.split())
    assert words == f"submitted the run {RUN}: {server.host}/#/runs/details/{RUN}"
    runtime = server.posted["runtime_config"]
    # The API server of Kubeflow Pipelines 2.17 reads no default from the pipeline.
    parameters = {"epochs": 12, "source": "7"}
    assert runtime == {"parameters": parameters, "pipeline_root": "minio://b/default"}
    assert "kubernetes" in server.posted["pipeline_spec"]["platform_spec"]["platforms"]
    assert server.tokens == {"Bearer secret"}


@pytest.mark.parametrize(
    ("blessed", "refused_by", "code", "told"),
    [
        (True, [], 0, "blessed"),
        (False, ["evaluator"], 3, "not blessed: "),
        (True, ["rollback"], 3, "not published: a rollback has withdrawn this model"),
    ],
)
def test_waiting_ends_with_the_verdict_in_the_folder_of_the_run(
    server: ApiServer, file: Path, blessed: bool, refused_by: list[str], code: int, told: str
):
    server.states = ["PENDING", "RUNNING", "SUCCEEDED"]
    found = run_results.result()
    found["gate"]["blessed"] = blessed
    found["push"] |= {"status": "refused" if refused_by else "pushed", "refused_by": refused_by}
    _run_folder(file, "result.json", verdict.ended(found))
    ended = _submit(server, file, "--wait")
    assert ended.exit_code == code, ended.output
    assert told in " ".join(ended.output.split())


@pytest.mark.parametrize(
    ("code", "error"), [(1, ImgpipeError), (2, ConfigError), (4, DataRefused), (5, ResourceError)]
)
def test_a_failed_task_raises_the_error_of_a_local_run_from_the_folder_of_the_run(
    server: ApiServer, file: Path, code: int, error: type[ImgpipeError]
):
    server.states = ["RUNNING", "FAILED"]
    cause = "too few 'scissors' in train: expected at least 1000"
    _run_folder(file, "failure.json", {"component": "Data", "cause": cause, "exit_code": code})
    raised = _error(_submit(server, file, "--wait"))
    assert type(raised) is error and raised.exit_code == code
    assert str(raised) == f"{cause}\nIts logs: {server.host}/#/runs/details/{RUN}"


def test_without_the_folder_of_the_run_its_state_is_the_exit_code(server: ApiServer, file: Path):
    ended = _submit(server, file, "--wait")
    assert ended.exit_code == 0, ended.output
    assert f"/out/runs/{RUN} has the verdict" in ended.output.replace("\n", " ")
    server.states = ["FAILED"]
    raised = _error(_submit(server, file, "--wait"))
    assert type(raised) is ImgpipeError and raised.exit_code == 1
    assert "a task has failed, or the run was cancelled" in str(raised)


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        ((500, "InternalServerError: InvalidInputError: json: no field"), ConfigError),
        ((500, "Internal Server Error: no database"), ResourceError),
        ((400, "parameter source is not optional"), ConfigError),
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
        ("epochs=many", "course.epochs: input should be a valid integer"),
        ("threshold=2.5", r"evaluate.threshold: input should be less than or equal to 1"),
    ],
)
def test_a_wrong_parameter_is_refused(server: ApiServer, file: Path, given: str, told: str):
    with pytest.raises(ConfigError, match=told):
        raise _error(_submit(server, file, "--param", given))


@pytest.mark.parametrize("content", ["", "a: [", "pipelineInfo: 1"])
def test_a_file_that_is_no_compiled_pipeline_is_refused(tmp_path: Path, content: str):
    (tmp_path / "other.yaml").write_text(content)
    with pytest.raises(ConfigError, match="is not a compiled pipeline"):
        submit(tmp_path / "other.yaml")


def test_a_server_that_does_not_answer_is_told_before_kfp_is_loaded(file: Path):
    with pytest.raises(ResourceError, match=r"no answer from http://127\.0\.0\.1:9"):
        submit(file, "http://127.0.0.1:9")
