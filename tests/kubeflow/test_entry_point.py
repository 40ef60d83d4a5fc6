"""Tests that an ExecutorInput of Kubeflow Pipelines is translated for TFX, or refused."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from imgpipe.pipeline.kubeflow import entry_point, mounts
from imgpipe.pipeline.kubeflow.run_folder import RunFolder

MODEL = {"instanceSchema": "title: tfx.Model\ntype: object\n"}
UUID = "7f0a1b2c-0000-4000-8000-0123456789ab"
SPEC = {"artifacts": {"model": {"artifactType": MODEL}}}


def test_what_kubeflow_sends_is_translated_for_tfx(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The ExecutorInput is as driver and launcher of Kubeflow Pipelines 2.17 make it."""
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    monkeypatch.setenv(mounts.ROOT, str(tmp_path))
    log_type = {"schemaTitle": "system.Artifact", "schemaVersion": "0.0.1"}
    untyped = {"type": {"instanceSchema": ""}, "uri": "minio://bucket/a/model"}
    model = {"type": MODEL, "uri": "s3://bucket/b/model"}
    log = {"type": log_type, "uri": "s3://bucket/b/executor-logs"}
    outputs = {"copy": {"artifacts": [model]}, "executor-logs": {"artifacts": [log]}}
    file = "/tmp/kfp_outputs/output_metadata.json"
    sent = {
        "inputs": {"artifacts": {"model": {"artifacts": [untyped]}}},
        "outputs": {"artifacts": outputs, "outputFile": file},
    }
    given = json_format.ParseDict(sent, pipeline_spec_pb2.ExecutorInput())
    spec = json_format.ParseDict(SPEC, pipeline_spec_pb2.ComponentInputsSpec())
    entry_point.translate(given, spec)
    (read,) = given.inputs.artifacts["model"].artifacts
    assert read.type.instance_schema == MODEL["instanceSchema"], "from the compiled task"
    assert read.uri == f"{tmp_path}/minio/bucket/a/model"
    assert list(given.outputs.artifacts) == ["copy"], "the log belongs to the launcher"
    assert given.outputs.artifacts["copy"].artifacts[0].uri == f"{tmp_path}/s3/bucket/b/model"
    assert given.outputs.output_file == file


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


def test_an_invalid_executor_input_is_named(capsys: pytest.CaptureFixture[str]):
    arguments = ("--executor_class_path=a.B", "--json_serialized_invocation_args={{$}}")
    assert (
        entry_point.main([*arguments, f"--json_serialized_inputs_spec_args={json.dumps(SPEC)}"])
        == 2
    )
    error = capsys.readouterr().err
    assert "imgpipe: --json_serialized_invocation_args is not what Kubeflow Pipelines" in error
    assert "received '{{$}}'" in error


def test_a_missing_argument_ends_with_exit_code_2_without_loading_tensorflow():
    program = "-X", "importtime", "-m", "imgpipe.pipeline.kubeflow.entry_point"
    ended = subprocess.run([sys.executable, *program], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert "--executor_class_path" in ended.stderr and "| tensorflow" not in ended.stderr
