"""Tests of the program of the containers: URIs and folders, errors, and wrong arguments."""

from __future__ import annotations

import errno
import sys

import pytest

from imgpipe.pipeline.kubeflow import entry_point, places
from tests import python_program

UUID = "7f0a1b2c-0000-4000-8000-0123456789ab"


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
    monkeypatch.delenv(places.ROOT, raising=False)
    assert places.to_path(uri) == path
    assert places.to_uri(path) == uri


@pytest.mark.parametrize(
    ("uri", "run"),
    [
        (f"minio://b/root/hands/8d2c-11/Plan/{UUID}/plan", "8d2c-11"),
        (f"gs://b/a/root/hands/8d2c-11/Plan/{UUID}/plan", "8d2c-11"),
        ("minio://b/root/hands/8d2c-11/Plan/plan", "8d2c-11"),  # up to 2.3
    ],
)
def test_the_id_of_the_run_is_found_in_uris_of_kubeflow(uri: str, run: str):
    assert places.in_run(f"/data/runs/{places.RUN}", uri) == f"/data/runs/{run}"


@pytest.mark.parametrize(
    ("path", "told", "code"),
    [
        (
            "/data/out/bank",
            "/data/out/bank (Permission denied) cannot be used. Make it writable, or choose "
            "another folder with run.out.",
            5,
        ),
        ("/etc/bank", "PermissionError: [Errno 13] Permission denied: '/etc/bank'", 1),
    ],
)
def test_a_folder_that_cannot_be_written_is_a_defect_only_outside_of_the_output_folder(
    path: str, told: str, code: int
):
    error = PermissionError(errno.EACCES, "Permission denied", path)
    assert entry_point._message_and_exit_code(error, f"/data/out/runs/{places.RUN}") == (told, code)


def test_an_invalid_executor_input_is_named(capsys: pytest.CaptureFixture[str]):
    assert entry_point.main(["--components=[]", "--input={{$}}"]) == 2
    error = capsys.readouterr().err
    assert "imgpipe: --input is not what Kubeflow Pipelines sends: received '{{$}}'" in error


def test_a_missing_argument_ends_with_exit_code_2_without_loading_tensorflow():
    program = "-X", "importtime", "-m", "imgpipe.pipeline.kubeflow.entry_point"
    ended = python_program.ran(sys.executable, *program, code=2)
    assert "--components" in ended.stderr
    imported = python_program.imported(ended.stderr)
    assert "imgpipe.pipeline.kubeflow.places" in imported
    assert not imported & {"tensorflow", "tfx", "apache_beam", "keras"}
