"""The compiled pipeline as Kubeflow Pipelines runs it, task by task in processes of their own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from imgpipe.components.model_pusher import manifest
from tests.e2e.case import SETTINGS, Case
from tests.kubeflow.cluster import RUN_ID, Cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small drawn set with planted faults."""
    from imgpipe.pipeline.demo import draw

    folder = tmp_path_factory.mktemp("drawn") / "photos"
    return draw(folder, per_class=24, size=112).directory


def _compiled(photos: Path, folder: Path, *settings: str) -> Cluster:
    """The pipeline of these photographs, whose places lie in `folder` as on a mounted volume."""
    from imgpipe.pipeline.commands.kubeflow import compile as kubeflow

    (folder / "out").mkdir(parents=True)
    given = [
        f"{section}.{key}={json.dumps(value)}"
        for section, values in SETTINGS.items()
        for key, value in values.items()
    ]
    places = {"results": folder, "data": photos}
    tables = ", ".join(f"{{claim = '{claim}', path = '{path}'}}" for claim, path in places.items())
    given += [f"kubeflow.volumes=[{tables}]", 'run.out="out"', *settings]
    output = folder / "pipeline.yaml"
    kubeflow.compile_(None, str(photos), output, "image:1", "minio://bucket/root", given)
    spec, _ = yaml.safe_load_all(output.read_text())
    return Cluster(spec, folder)


def _run_folder(cluster: Cluster) -> Path:
    """Folder of the run on the volume, named by the id of the run."""
    return cluster.folder / "out" / "runs" / RUN_ID


def _pushed(out: Path) -> Any:
    (version,) = manifest.versions(out / "model")
    return version


def test_a_blessed_run_ends_as_on_one_machine(photos: Path, tmp_path: Path):
    local = Case(photos, tmp_path / "local").run()
    assert local.exit_code == 0, local.verdict

    cluster = _compiled(photos, tmp_path / "cluster")
    cluster.run()
    failed = {name: cluster.logs[name][-2000:] for name, code in cluster.exit_codes.items() if code}
    assert not failed, "\n\n".join(f"{name}:\n{log}" for name, log in failed.items())
    assert set(cluster.exit_codes) == {*cluster.tasks, "ExitReport"}
    assert cluster.most_at_once == 2

    page = cluster.stored(cluster.outputs["Report"]["report"]["uri"])
    assert (page / "report.html").is_file()
    facts = json.loads((page / "facts.json").read_text())
    last = cluster.stored(cluster.outputs["ExitReport"]["report"]["uri"])
    assert (last / "report.html").read_bytes() == (page / "report.html").read_bytes()
    gate = {key: facts["gate"][key] for key in local.summary["gate"]}
    assert gate == local.summary["gate"]
    assert facts["data"]["by_split"] == local.summary["data"]["splits"]
    ours, theirs = _pushed(tmp_path / "local"), _pushed(tmp_path / "cluster" / "out")
    assert theirs.model_identity == ours.model_identity
    assert theirs.run_key == ours.run_key


def test_refused_data_stops_the_run(photos: Path, tmp_path: Path):
    cluster = _compiled(photos, tmp_path, "gate.min_train=1000")
    cluster.run()
    assert cluster.exit_codes["DataGate"] == 4, cluster.logs["DataGate"][-2000:]
    _, told = cluster.logs["DataGate"].rsplit("\nimgpipe: ", 1)
    assert "too few 'scissors' in train: expected at least 1000" in told
    assert not {"FeatureBank", "ImageTrainer", "ModelPusher"} & set(cluster.exit_codes)
    assert "blessing" not in cluster.outputs.get("DataGate", {})
    assert cluster.exit_codes["ExitReport"] == 0, cluster.logs["ExitReport"][-2000:]
    page = (_run_folder(cluster) / "report.html").read_text()
    assert "too few &#39;scissors&#39; in train" in page
    facts = json.loads((_run_folder(cluster) / "facts.json").read_text())
    assert facts["data_gate"]["blessed"] is False
    assert facts["rejects"], "the page shows the rejected images"


def test_a_failing_task_stops_the_run(photos: Path, tmp_path: Path):
    moved = shutil.copytree(photos, tmp_path / "photos")
    cluster = _compiled(moved, tmp_path / "cluster")
    shutil.rmtree(moved)
    cluster.run()
    assert cluster.exit_codes["ImageExampleGen"] == 2, cluster.logs["ImageExampleGen"][-2000:]
    assert str(moved) in cluster.logs["ImageExampleGen"].splitlines()[-1]
    assert not {"ImageFilter", "StatisticsGen", "DataGate"} & set(cluster.exit_codes)
    page = (_run_folder(cluster) / "report.html").read_text()
    assert "failed in ImageExampleGen: " in page and str(moved) in page
