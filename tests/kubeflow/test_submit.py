"""Tests of ``imgpipe kubeflow submit`` and ``schedule`` against a fake of KFP's REST API."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import kfp_server_api as api
import pytest
import yaml
from typer.testing import CliRunner

from imgpipe.models.errors import ConfigError, DataRefused, ImgpipeError, ResourceError
from imgpipe.pipeline.commands.kubeflow import app, schedule, submit
from imgpipe.pipeline.kubeflow.address import Address
from tests import images
from tests.kubeflow.api_server import RECURRING, RUN, ApiServer, running

PARAMETERS = {
    "epochs": {"parameterType": "NUMBER_INTEGER", "defaultValue": 9},
    "threshold": {"parameterType": "NUMBER_DOUBLE", "defaultValue": 0.9},
    "source": {"parameterType": "STRING", "isOptional": True},
}
SPEC: dict[str, Any] = {
    "pipelineInfo": {"name": "photos"},
    "schemaVersion": "2.1.0",
    "defaultPipelineRoot": "minio://b/default",
    "root": {"dag": {"tasks": {}}, "inputDefinitions": {"parameters": PARAMETERS}},
}
#: The last line that the real launcher of Kubeflow Pipelines 2.17 writes; it has the exit code.
LAUNCHER = "F1121 01:00:00.000000 7 main.go:49] failed to execute component: exit status {}\n"


@pytest.fixture
def server() -> Iterator[ApiServer]:
    """Return a running fake API server."""
    with running(ApiServer()) as started:
        yield started


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path of a small compiled pipeline."""
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump(SPEC))
    return path


def _target(file: Path | str, host: str, *parameters: str, **changes: Any) -> submit.Target:
    """Return what to submit, to the server at `host`."""
    given: dict[str, Any] = {"root": None, "data": None, "token": None, "image": "", **changes}
    return submit.Target(
        source=str(file),
        settings=(),
        host=host,
        parameters=parameters,
        experiment="trials",
        namespace=None,
        **given,
    )


def _tasks(name: str, state: str, **changes: Any) -> list[api.V2beta1PipelineTaskDetail]:
    """Return the details of one task as Argo's nodes: the component, its retries and its pod."""
    nodes = ["root", name, "executor", "executor(0)"]
    children = [[api.PipelineTaskDetailChildTask(pod_name=f"node-{i + 1}")] for i in range(3)]
    return [
        api.V2beta1PipelineTaskDetail(
            display_name=node, pod_name=f"node-{i}", state=state, child_tasks=below, **changes
        )
        for i, (node, below) in enumerate(zip(nodes, [*children, []], strict=True))
    ]


def test_a_run_is_submitted_with_its_parameters_and_root(server: ApiServer, file: Path):
    ended = CliRunner().invoke(
        app,
        [
            *("submit", str(file), "--host", server.host, "--root", "minio://b/root"),
            *("--param", "epochs=12", "--param", "source=s3://photos/a=b", "--token", "secret"),
        ],
    )
    assert ended.exit_code == 0, ended.output
    assert f"submitted the run {RUN}" in ended.output
    posted = server.posted["/apis/v2beta1/runs"]
    assert posted["pipeline_spec"]["pipelineInfo"]["name"] == "photos"
    assert posted["runtime_config"] == {
        "parameters": {"epochs": 12, "source": "s3://photos/a=b"},
        "pipeline_root": "minio://b/root",
    }
    assert posted["experiment_id"] == "experiment-1"
    assert posted["display_name"].startswith("photos ")
    assert server.tokens == {"Bearer secret"}


def test_a_folder_of_images_is_compiled_before_it_is_submitted(server: ApiServer, tmp_path: Path):
    images.folder_of(tmp_path / "photos")
    volumes = f"kubeflow.volumes=[{{claim = 'images', path = '{tmp_path}'}}]"
    target = _target("", server.host, data=str(tmp_path / "photos"), root="s3://bucket/root")
    target = replace(target, source=None, settings=[volumes])
    assert submit.run(target, None, False) == 0
    posted = server.posted["/apis/v2beta1/runs"]
    spec = posted["pipeline_spec"]["pipeline_spec"]
    assert "ImageTrainer" in spec["components"]["comp-pipeline"]["dag"]["tasks"]
    assert "kubernetes" in posted["pipeline_spec"]["platform_spec"]["platforms"]
    assert posted["runtime_config"]["pipeline_root"] == "s3://bucket/root"


def test_waiting_prints_each_new_state_until_the_run_ends(
    server: ApiServer, file: Path, capsys: pytest.CaptureFixture[str]
):
    server.states = ["PENDING", "RUNNING", "RUNNING", "SUCCEEDED"]
    assert submit.run(_target(file, server.host), "a name", True, every=0.01) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[-4:-1] == ["pending", "running", "succeeded"]
    assert "no log of the task Report" in told[-1]
    posted = server.posted["/apis/v2beta1/runs"]
    assert posted["display_name"] == "a name"
    # The API server of Kubeflow Pipelines 2.17 reads no default from the pipeline.
    assert posted["runtime_config"]["pipeline_root"] == "minio://b/default"


@pytest.mark.parametrize(
    ("verdict", "code"),
    [("blessed: 0.91 reaches 0.5", 0), ("not blessed: 0.41 is under 0.5", 3)],
)
def test_waiting_prints_the_verdict_of_the_report_and_ends_with_its_exit_code(
    server: ApiServer, file: Path, verdict: str, code: int, capsys: pytest.CaptureFixture[str]
):
    server.tasks = _tasks("Report", "SUCCEEDED")
    line = f"I1121 01:00:00.000000 7 component.py:70] the model is {verdict}\n"
    server.logs = {"node-3": f"first\n{line}last\n"}
    assert submit.run(_target(file, server.host), None, True, every=0.01) == code
    assert capsys.readouterr().out.splitlines()[-1] == verdict


@pytest.mark.parametrize(
    ("code", "error"), [(1, ImgpipeError), (2, ConfigError), (4, DataRefused), (5, ResourceError)]
)
def test_a_failed_task_raises_the_error_of_a_local_run_with_its_log(
    server: ApiServer, file: Path, code: int, error: type[ImgpipeError]
):
    server.states = ["RUNNING", "FAILED"]
    server.tasks = _tasks("DataGate", "FAILED")
    said = "imgpipe: too few 'scissors' in train: expected at least 1000"
    server.logs = {"node-3": "\n".join(["line"] * 50) + f"\n{said}\n" + LAUNCHER.format(code)}
    with pytest.raises(error) as raised:
        submit.run(_target(file, server.host), None, True, every=0.01)
    first, *lines = str(raised.value).splitlines()
    assert raised.value.exit_code == code
    assert first == "the task DataGate failed. The last lines of its log:"
    assert len(lines) == 20
    assert lines[-2] == said


def test_an_attempt_after_which_a_retry_succeeded_is_not_the_cause(server: ApiServer, file: Path):
    server.states = ["FAILED"]
    recovered = _tasks("DataGate", "SUCCEEDED", end_time="2026-01-01T00:00:01Z")
    recovered[-1].state = "FAILED"
    last = _tasks("ImageTrainer", "FAILED", end_time="2026-01-01T00:00:02Z")
    for task in last:
        task.pod_name = f"trainer-{task.pod_name}"
        for child in task.child_tasks:
            child.pod_name = f"trainer-{child.pod_name}"
    server.tasks = [*recovered, *last]
    server.logs = {"node-3": LAUNCHER.format(4), "trainer-node-3": LAUNCHER.format(5)}
    with pytest.raises(ResourceError, match="the task ImageTrainer failed"):
        submit.run(_target(file, server.host), None, True, every=0.01)


def test_a_failed_run_without_a_log_gives_the_error_of_the_server(server: ApiServer, file: Path):
    server.states = ["FAILED"]
    why = api.GoogleRpcStatus(message="OOMKilled (exit code 137)")
    server.tasks = _tasks("ImageTrainer", "FAILED", error=why)
    with pytest.raises(ImgpipeError, match=r"failed tasks: ImageTrainer, root.*OOM") as raised:
        submit.run(_target(file, server.host), None, True, every=0.01)
    assert raised.value.exit_code == 1


def test_a_canceled_run_is_a_resource_error(server: ApiServer, file: Path):
    server.states = ["CANCELED"]
    with pytest.raises(ResourceError, match=f"{RUN} ended as CANCELED before"):
        submit.run(_target(file, server.host), None, True, every=0.01)


def test_a_refused_pipeline_gives_the_message_of_the_server(server: ApiServer, file: Path):
    server.refusal = (400, "unknown field 'x' in PipelineSpec")
    with pytest.raises(ConfigError, match="refused the request: unknown field 'x' in Pipe"):
        submit.run(_target(file, server.host), None, False)


@pytest.mark.parametrize(
    ("status", "told"), [(401, "Pass a token with --token"), (503, "the server's own log")]
)
def test_a_server_that_refuses_the_caller_is_a_resource_error(
    server: ApiServer, file: Path, status: int, told: str
):
    server.refusal = (status, "no")
    with pytest.raises(ResourceError, match=told):
        submit.run(_target(file, server.host), None, False)


def test_a_missing_server_is_reported_before_tensorflow_is_loaded(file: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"http://127.0.0.1:{free.getsockname()[1]}"
        ended = subprocess.run(
            [
                *(sys.executable, "-X", "importtime", "-m", "imgpipe.pipeline.cli", "kubeflow"),
                *("submit", str(file), "--host", host),
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )
    loaded = {line.rsplit("|", 1)[-1].strip() for line in ended.stderr.splitlines() if "|" in line}
    assert ended.returncode == 5, ended.stderr[-2000:]
    assert f"no API server of Kubeflow Pipelines answers at {host}" in ended.stderr
    assert not {"tensorflow", "tfx", "kfp"} & loaded


def test_a_server_without_the_api_is_refused(file: Path, server: ApiServer):
    with pytest.raises(ResourceError, match="answered 404"):
        submit.run(_target(file, f"{server.host}/elsewhere"), None, False)


@pytest.mark.parametrize(
    ("parameter", "told"),
    [
        ("epochs", "expected NAME=VALUE"),
        ("epochs=many", "expected an integer, received 'many'"),
        ("epochs=1.5", "expected an integer, received '1.5'"),
        ("threshold=true", "expected a number, received 'true'"),
        ("threshold=NaN", "expected a number, received 'NaN'"),
        ("threshold=1e999", "expected a number, received '1e999'"),
        ("size=3", "no parameter 'size'. Its parameters: epochs, source, threshold"),
    ],
)
def test_a_wrong_parameter_is_named(file: Path, parameter: str, told: str):
    with pytest.raises(ConfigError, match=re.escape(f"--param {parameter}: ")) as raised:
        submit.run(_target(file, "http://127.0.0.1:1", parameter), None, False)
    assert told in str(raised.value)


def test_a_parameter_without_a_default_needs_a_value(server: ApiServer, tmp_path: Path):
    spec = json.loads(json.dumps(SPEC))
    spec["root"]["inputDefinitions"]["parameters"]["source"] = {"parameterType": "STRING"}
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump(spec))
    with pytest.raises(ConfigError, match="no default for its parameter 'source'"):
        submit.run(_target(path, server.host), None, False)
    assert submit.run(_target(path, server.host, "source=/data/photos"), None, False) == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "cannot be read as YAML: No such file"),
        ("a: [", "cannot be read as YAML: while parsing"),
        ("a: 1", "is not a compiled pipeline"),
    ],
)
def test_a_file_that_is_not_a_compiled_pipeline_is_refused(
    tmp_path: Path, text: str | None, told: str
):
    path = tmp_path / "x.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=told):
        submit.run(_target(path, "http://127.0.0.1:1"), None, False)


@pytest.mark.parametrize("given", [{"data": "photos"}, {"image": "image:2"}])
def test_options_of_the_compiler_are_refused_with_a_compiled_file(
    file: Path, given: dict[str, str]
):
    with pytest.raises(ConfigError, match="is compiled already, so --data, --set and --image"):
        submit.run(_target(file, "http://127.0.0.1:1", **given), None, False)


@pytest.mark.parametrize(
    "host",
    ["localhost:8888", "http:///x", "", "http://.a", f"http://{'a' * 64}.org", "http://[abc"],
)
def test_a_host_that_is_not_a_url_is_refused(file: Path, host: str):
    with pytest.raises(ConfigError, match="expected the URL of the API server"):
        submit.run(_target(file, host), None, False)


@pytest.mark.parametrize("token", ["hidden\rsecret", "hidden secret", "hiddenß"])
def test_a_token_with_other_characters_is_refused_and_not_printed(file: Path, token: str):
    with pytest.raises(ConfigError, match="--token: expected visible ASCII") as raised:
        submit.run(_target(file, "http://127.0.0.1:1", token=token), None, False)
    assert "hidden" not in str(raised.value)


def test_a_line_end_after_the_token_is_not_sent(server: ApiServer, file: Path):
    assert submit.run(_target(file, server.host, token="secret\r\n"), None, False) == 0
    assert server.tokens == {"Bearer secret"}


def test_a_redirection_is_refused_and_the_other_server_gets_no_token(server: ApiServer, file: Path):
    with (
        running(ApiServer(moved_to=server)) as moved,
        pytest.raises(ResourceError, match=r"answered 302 .*a login page or to another server"),
    ):
        submit.run(_target(file, moved.host, token="secret"), None, False)
    assert not server.tokens


@pytest.mark.parametrize(
    ("cron", "every", "trigger"),
    [
        ("0 3 * * *", None, {"cron_schedule": {"cron": "0 0 3 * * *"}}),
        ("30 0 3 * * *", None, {"cron_schedule": {"cron": "30 0 3 * * *"}}),
        (None, "12h", {"periodic_schedule": {"interval_second": 43200}}),
    ],
)
def test_a_schedule_is_created_as_a_recurring_run(
    server: ApiServer, file: Path, cron: str | None, every: str | None, trigger: dict[str, Any]
):
    given = _target(file, server.host, "epochs=3", root="s3://bucket/root")
    assert schedule.run(given, "each night", cron, every) == 0
    posted = server.posted["/apis/v2beta1/recurringruns"]
    assert posted["trigger"] == trigger
    assert posted["display_name"] == "each night"
    assert posted["mode"] == "ENABLE"
    assert posted["max_concurrency"] == 1
    assert posted["no_catchup"] is True
    assert posted["runtime_config"] == {
        "parameters": {"epochs": 3},
        "pipeline_root": "s3://bucket/root",
    }


def test_schedule_prints_the_id_of_the_recurring_run(server: ApiServer, file: Path):
    ended = CliRunner().invoke(
        app, ["schedule", str(file), "--host", server.host, "--every", "30m"]
    )
    assert ended.exit_code == 0, ended.output
    assert f"scheduled the recurring run {RECURRING}" in ended.output


@pytest.mark.parametrize(
    ("cron", "every", "told"),
    [
        (None, None, "needs one of --cron and --every"),
        ("0 3 * * *", "1h", "needs one of --cron and --every"),
        ("3 o'clock", None, "expected five fields"),
        (None, "0h", "expected a whole number with s, m, h or d"),
    ],
)
def test_invalid_times_of_a_schedule_are_refused(
    file: Path, cron: str | None, every: str | None, told: str
):
    with pytest.raises(ConfigError, match=told):
        schedule.run(_target(file, "http://127.0.0.1:1"), None, cron, every)


def test_a_port_that_speaks_no_http_is_named(file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00 HTTP/2 frames\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with pytest.raises(ResourceError, match="no API server of Kubeflow Pipelines answers"):
            Address(f"http://127.0.0.1:{port}").check()
        thread.join(10)
