"""Tests of `imgpipe kubeflow submit` against fakes of Kubeflow Pipelines and Kubernetes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from imgpipe.models.errors import ConfigError, DataRefused, ImgpipeError, ResourceError
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
#: What the launcher and Argo write after a component that failed.
LAUNCHER = """I1124 23:09:25.968378      15 launcher_v2.go:206] publish success.
F1124 23:09:25.970234      15 main.go:130] failed to execute component: exit status {}
time=2026-11-24T23:09:26.823Z level=INFO msg="sub-process exited" argo=true error="exit status 1"
Error: exit status 1
"""
_DEFAULT = "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"
_NO_PODS: dict[str, tuple[str, str, str]] = {}
_KILLED = "failed to execute component: signal: killed"
_DRIVER = {"Plan": ("Succeeded", "", ""), "Data-driver": ("Failed", "F1124 KFP driver: no", "")}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ApiServer]:
    """Return running fakes, which the kubeconfig names, and do not wait between requests."""
    monkeypatch.setattr(submit.time, "sleep", lambda _: None)
    with running() as started:
        # kubernetes reads the variable KUBECONFIG only when it is imported.
        monkeypatch.setattr(_DEFAULT, str(started.kubeconfig(tmp_path / "kubeconfig")))
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
    given = ["--param", "epochs=12", "--param", "source=7", "--token", "secret"]
    ended = _submit(server, file, *given)
    assert ended.exit_code == 0, ended.output
    assert f"submitted the run {RUN}" in ended.output
    runtime = server.posted["runtime_config"]
    # The API server of Kubeflow Pipelines 2.17 reads no default from the pipeline.
    parameters = {"epochs": 12, "source": "7"}
    assert runtime == {"parameters": parameters, "pipeline_root": "minio://b/default"}
    assert "kubernetes" in server.posted["pipeline_spec"]["platform_spec"]["platforms"]
    assert server.tokens == {"Bearer secret"}


@pytest.mark.parametrize(
    ("push", "verdict", "code"),
    [
        ("pushed", "blessed: 0.91 reaches 0.5", 0),
        ("refused", "not blessed: 0.41 is under 0.5", 3),
        ("refused", "blessed: 0.91; not published, because a rollback withdrew it", 3),
    ],
)
def test_waiting_ends_with_the_verdict_of_the_report(
    server: ApiServer, file: Path, push: str, verdict: str, code: int
):
    server.states = ["PENDING", "RUNNING", "", "RUNNING", "SUCCEEDED"]
    line = f"I1121 01:00:00.000000 7 component.py:70] the model is {push}: {verdict}\n"
    server.pods = {"Plan": ("Succeeded", "", "")}
    server.pods |= {"Publishing": ("Succeeded", f"first\n{line}last\n", "")}
    ended = _submit(server, file, "--wait")
    assert ended.exit_code == code, ended.output
    assert ended.output.splitlines()[1:] == ["pending", "running", "succeeded", verdict]


@pytest.mark.parametrize(
    ("code", "error"), [(1, ImgpipeError), (2, ConfigError), (4, DataRefused), (5, ResourceError)]
)
def test_a_failed_task_raises_the_error_of_a_local_run_with_its_log(
    server: ApiServer, file: Path, code: int, error: type[ImgpipeError]
):
    server.states = ["FAILED"]
    said = "imgpipe: too few 'scissors' in train: expected at least 1000"
    log = "\n".join(["line"] * 50) + f"\n{said}\n" + LAUNCHER.format(code)
    server.pods = {"Plan": ("Succeeded", "", ""), "Data": ("Failed", log, "")}
    raised = _error(_submit(server, file, "--wait"))
    first, *lines = str(raised).splitlines()
    assert type(raised) is error and raised.exit_code == code
    assert first == "the last task, Data, failed. The last lines of its log:"
    assert lines == [*["line"] * 11, said]


@pytest.mark.parametrize(
    ("states", "pods", "code", "told"),
    [
        (["FAILED"], {"Training": ("Failed", _KILLED, "")}, 5, "Training.memory: memory"),
        (["FAILED"], _DRIVER, 1, "last task, Data-driver, failed.*\n.*KFP driver"),
        (["SUCCEEDED"], _NO_PODS, 5, "its pods are gone"),
        (["CANCELING", "FAILED"], _NO_PODS, 5, "was cancelled"),
    ],
)
def test_runs_that_end_in_other_ways_are_named(
    server: ApiServer, file: Path, states: list[str], pods: Any, code: int, told: str
):
    server.states, server.history, server.pods = states[-1:], states[:-1], pods
    raised = _error(_submit(server, file, "--wait"))
    assert raised.exit_code == code
    with pytest.raises(ImgpipeError, match=told):
        raise raised


def test_a_task_that_cannot_start_is_said(
    server: ApiServer, file: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(submit, "_PENDING_SECONDS", -1)
    server.states = ["RUNNING", "RUNNING", "FAILED"]
    server.pods = {"Plan": ("Pending", "", "ImagePullBackOff")}
    ended = _submit(server, file, "--wait")
    assert ended.output.count("a task cannot start: Plan: ImagePullBackOff no such image") == 1


@pytest.mark.parametrize(("state", "code"), [("SUCCEEDED", 0), ("FAILED", 1)])
@pytest.mark.parametrize("forbidden", [False, True])
def test_without_pods_the_state_of_the_run_is_told(
    server: ApiServer, file: Path, monkeypatch: Any, state: str, code: int, forbidden: bool
):
    server.pods = None if forbidden else {}
    if not forbidden:
        monkeypatch.setattr(_DEFAULT, str(file.parent / "none"))
    server.states = ["RUNNING", state]
    ended = _submit(server, file, "--wait")
    assert ended.exit_code == 0 if code == 0 else _error(ended).exit_code == code
    assert "no pods can be listed, so only the run's state is known: " in ended.output


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
        ("epochs=many", "train.epochs: input should be a valid integer"),
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
        submit.command(tmp_path / "other.yaml")


def test_a_server_that_does_not_answer_is_told_before_kfp_is_loaded(file: Path):
    with pytest.raises(ResourceError, match=r"no answer from http://127\.0\.0\.1:9"):
        submit.command(file, "http://127.0.0.1:9")
