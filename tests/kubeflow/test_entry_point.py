"""Tests that an ExecutorInput of Kubeflow Pipelines is translated for TFX, or refused."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from imgpipe.pipeline.kubeflow import entry_point, mounts
from imgpipe.pipeline.kubeflow.run_folder import RunFolder

MODEL = {"instanceSchema": "title: tfx.Model\ntype: object\n"}
UUID = "7f0a1b2c-0000-4000-8000-0123456789ab"
SPEC = {"artifacts": {"model": {"artifactType": MODEL}}}


def _sent() -> dict[str, Any]:
    """Return an ExecutorInput as driver and launcher of Kubeflow Pipelines 2.17 make it."""
    log_type = {"schemaTitle": "system.Artifact", "schemaVersion": "0.0.1"}
    untyped = {"type": {"instanceSchema": ""}, "uri": "minio://bucket/a/model"}
    model = {"type": MODEL, "uri": "s3://bucket/b/model"}
    log = {"type": log_type, "uri": "s3://bucket/b/executor-logs"}
    return {
        "inputs": {"artifacts": {"model": {"artifacts": [untyped]}}},
        "outputs": {
            "artifacts": {
                "copy": {"artifacts": [model]},
                "executor-logs": {"artifacts": [log]},
            },
            "outputFile": "/tmp/kfp_outputs/output_metadata.json",
        },
    }


def _translated() -> Any:
    """Return the ExecutorInput of `_sent` as a message, translated for TFX."""
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    given = json_format.ParseDict(_sent(), pipeline_spec_pb2.ExecutorInput())
    entry_point.translate(
        given, json_format.ParseDict(SPEC, pipeline_spec_pb2.ComponentInputsSpec())
    )
    return given


def test_input_types_come_from_the_compiled_task():
    (model,) = _translated().inputs.artifacts["model"].artifacts
    assert model.type.instance_schema == MODEL["instanceSchema"]


def test_the_log_of_the_launcher_is_not_an_output_of_the_component():
    assert list(_translated().outputs.artifacts) == ["copy"]


def test_uris_are_translated_to_folders_of_the_container(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv(mounts.ROOT, str(tmp_path))
    given = _translated()
    assert given.inputs.artifacts["model"].artifacts[0].uri == f"{tmp_path}/minio/bucket/a/model"
    assert given.outputs.artifacts["copy"].artifacts[0].uri == f"{tmp_path}/s3/bucket/b/model"
    assert given.outputs.output_file == "/tmp/kfp_outputs/output_metadata.json"


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("minio://bucket/key/x", "/minio/bucket/key/x"),
        ("s3://bucket/key/x", "/s3/bucket/key/x"),
        ("gs://bucket/key/x", "/gcs/bucket/key/x"),
        ("/data/x", "/data/x"),
    ],
)
def test_a_uri_and_its_folder_are_translated_into_each_other(
    uri: str, path: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv(mounts.ROOT, raising=False)
    assert mounts.to_path(uri) == path
    assert mounts.to_uri(path) == uri


@pytest.mark.parametrize(
    ("uri", "run"),
    [
        (f"minio://b/root/hands/8d2c-11/Plan/{UUID}/plan", "8d2c-11"),
        (f"gs://b/a/root/hands/8d2c-11/Plan/{UUID}/plan", "8d2c-11"),
        ("minio://b/root/hands/8d2c-11/Plan/plan", "8d2c-11"),  # up to 2.3
        ("gs://b/root/123456/hands-20260101120000/Plan_-42/plan", "hands-20260101120000"),
        ("gs://b/123456/hands-20260101120000/Plan_42/plan", "hands-20260101120000"),
    ],
)
def test_the_id_of_the_run_is_found_in_uris_of_kubeflow_and_of_vertex_ai(uri: str, run: str):
    assert mounts.in_run(f"/data/runs/{mounts.RUN}", uri) == f"/data/runs/{run}"


@pytest.mark.parametrize(
    ("path", "told", "code"),
    [
        (
            "/data/out/bank",
            "/data/out/bank (Permission denied) cannot be used. Move it away, or choose another "
            "folder with run.out.",
            5,
        ),
        ("/etc/bank", "PermissionError: [Errno 13] Permission denied: '/etc/bank'", 1),
    ],
)
def test_a_folder_that_cannot_be_written_is_a_defect_only_outside_of_the_output_folder(
    path: str, told: str, code: int
):
    notes = RunFolder(f"/data/out/runs/{mounts.RUN}")
    error = PermissionError(errno.EACCES, "Permission denied", path)
    assert entry_point._known(error, notes) == (told, code)


@pytest.mark.parametrize("text", ["{{$}}", '{"inputs": 1}'])
def test_an_invalid_executor_input_is_named(text: str, capsys: pytest.CaptureFixture[str]):
    code = entry_point.main(
        [
            "--executor_class_path=a.B",
            f"--json_serialized_invocation_args={text}",
            f"--json_serialized_inputs_spec_args={json.dumps(SPEC)}",
        ]
    )
    error = capsys.readouterr().err
    assert code == 2
    assert "imgpipe: --json_serialized_invocation_args is not what Kubeflow Pipelines" in error
    assert f"received {text!r}" in error


def test_a_missing_argument_ends_with_exit_code_2_without_loading_tensorflow():
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "imgpipe.pipeline.kubeflow.entry_point"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 2
    assert "--executor_class_path" in ended.stderr
    assert "| tensorflow" not in ended.stderr
