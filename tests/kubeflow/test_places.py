"""Tests of what containers share: paths on volumes, URIs, and the program that they run."""

import errno
import re
from typing import Any

import pytest

from imgpipe.models.errors import ConfigError
from imgpipe.models.settings.settings import Settings
from imgpipe.pipeline.configuration import config as configs
from imgpipe.pipeline.configuration import given_settings
from imgpipe.pipeline.kubeflow import entry_point, places
from tests import python_program

UUID = "7f0a1b2c-0000-4000-8000-0123456789ab"
VOLUMES = {"volumes": [{"claim": "photos", "path": "/data"}]}


def _config(**sections: Any) -> Settings:
    """Return a configuration with a volume at /data, which `sections` overrides."""
    return configs.build({"data": {"source": "/data/photos"}, "kubeflow": VOLUMES, **sections})


def test_relative_paths_are_below_the_first_volume_and_others_on_any():
    found = places.on_volumes(_config(data={"source": "photos"}))
    assert found.data.source == "/data/photos"
    assert str(found.places.out) == "/data/imgpipe-out"
    assert str(found.places.bank) == "/data/imgpipe-out/bank"
    assert str(found.places.schema) == "/data/imgpipe-out/schema/schema.pbtxt"

    volumes = [*VOLUMES["volumes"], {"claim": "models", "path": "/models/"}]
    bank, source = {"store": "/models/hands"}, {"source": "gs://bucket/photos"}
    found = places.on_volumes(_config(kubeflow={"volumes": volumes}, bank=bank, data=source))
    assert str(found.places.bank) == "/models/hands"
    assert found.data.source == "gs://bucket/photos", "an object store is no volume"

    with pytest.raises(ConfigError, match=r"Mounted: none\.") as refused:
        places.on_volumes(_config(kubeflow={}))
    assert "--set 'kubeflow.volumes=[{claim = " in str(refused.value)
    assert "run.out lies on no volume. Received: 'imgpipe-out'." in str(refused.value)


@pytest.mark.parametrize(
    ("sections", "setting", "path"),
    [
        ({"data": {"source": "/home/me/photos"}}, "data.source", "/home/me/photos"),
        ({"data": {"source": "/database/photos"}}, "data.source", "/database/photos"),
        ({"data": {"source": "/data/../etc"}}, "data.source", "/data/../etc"),
        ({"data": {"source": "tfds:beans"}}, "data.tfds_dir", ""),
        ({"run": {"out": "/tmp/out"}}, "run.out", "/tmp/out"),
        ({"judge": {"overrides": "/tmp/o.toml"}}, "judge.overrides", "/tmp/o.toml"),
        ({"model": {"weights": "/tmp/w.keras"}}, "model.weights", "/tmp/w.keras"),
    ],
)
def test_a_path_that_lies_on_no_volume_is_refused(sections: Any, setting: str, path: str):
    words = re.escape(f"{setting} lies on no volume. Received: {path!r}.")
    with pytest.raises(ConfigError, match=words) as refused:
        places.on_volumes(_config(**sections))
    assert "Mounted: /data." in str(refused.value)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("sections", "setting"),
    [
        ({"data": {"source": "/data"}}, "run.out"),
        ({"bank": {"store": "/data/photos/bank"}}, "bank.store"),
    ],
)
def test_outputs_among_the_images_are_refused(sections: Any, setting: str):
    with pytest.raises(ConfigError, match=f"^{setting}: .* lies in the folder of the") as refused:
        places.on_volumes(_config(**sections))
    assert f"--set {setting}=FOLDER" in str(refused.value)


@pytest.mark.parametrize(
    ("kubeflow", "expected"),
    [
        ({"volumes": [{"claim": "a", "path": "data"}]}, "an absolute folder such as /data"),
        ({"volumes": [{"claim": "a", "path": "/minio/x"}]}, "must not lie below /minio"),
        ({"volumes": [{"claim": "A B", "path": "/d"}]}, "volumes.0.claim: string should match"),
        ({"volumes": VOLUMES["volumes"] * 2}, "volumes must have different paths"),
        ({"volumes": [{"path": "/d"}]}, "volumes.0.claim: field required"),
        ({"resources": {"default": {"memory": "4GB"}}}, "default.memory: string should match"),
        ({"resources": {"default": {"cpus": 1}}}, "unknown key 'kubeflow.resources.default.cpus'"),
        ({"tolerations": []}, "unknown key 'kubeflow.tolerations'"),
    ],
)
def test_settings_that_kubernetes_would_refuse_are_refused(kubeflow: Any, expected: str):
    with pytest.raises(ConfigError, match=re.escape(expected)):
        _config(kubeflow=kubeflow)


def test_the_section_kubeflow_is_written_and_read_again(tmp_path):
    given = {**VOLUMES, "resources": {"Training": {"cpu": 4, "memory": "8Gi", "gpu": 1}}}
    config = _config(kubeflow=given)
    (tmp_path / "c.toml").write_text(given_settings.to_toml(config))
    assert configs.load(tmp_path / "c.toml") == config
    assert config.kubeflow.resources["Training"].cpu == "4"


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


def test_wrong_arguments_are_named(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        entry_point.main([])
    assert "--components" in capsys.readouterr().err
    assert entry_point.main(["--components=[]", "--input={{$}}"]) == 2
    error = capsys.readouterr().err
    assert "imgpipe: --input is not what Kubeflow Pipelines sends: received '{{$}}'" in error


def test_a_missing_argument_ends_with_exit_code_2_without_loading_tensorflow():
    imported, _ = python_program.imported("imgpipe.pipeline.kubeflow.entry_point", code=2)
    assert "imgpipe.pipeline.kubeflow.places" in imported
    assert not imported & {"tensorflow", "tfx", "apache_beam", "keras"}
