"""Tests of the compiled pipeline as Kubeflow Pipelines runs it, with a process for each task."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from imgpipe.components.storage import manifest
from tests.e2e.case import SETTINGS, Case
from tests.kubeflow.cluster import Cluster, other_user, records_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def photos() -> Iterator[Path]:
    """Return a folder of drawn images with planted faults, which every user may read."""
    from imgpipe.pipeline.demo import draw

    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield draw(Path(folder) / "photos", per_class=24, size=112).directory


@pytest.fixture
def volume() -> Iterator[Path]:
    """Return a folder in which every user may write, like the volume of a cluster."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def _compiled(photos: Path, folder: Path, *settings: str) -> Cluster:
    """Compile the pipeline of the images; its outputs are in `folder`, as on a mounted volume."""
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
    """Return the folder of the run on the volume; its name is the id of the run."""
    return cluster.folder / "out" / "runs" / cluster.run_id


def _pushed(out: Path) -> Any:
    """Return the only version that was published below an output folder."""
    (version,) = manifest.versions(out / "model")
    return version


@dataclass(frozen=True)
class Twins:
    """The first run of the compiled pipeline, and the local run on the same images."""

    photos: Path
    folder: Path
    local: Any
    cluster: Cluster


@pytest.fixture(scope="module")
def twins(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Twins:
    """Return a local run and a cluster run on a copy of the images that a test may add to."""
    folder = tmp_path_factory.mktemp("twins")
    copied = shutil.copytree(photos, folder / "photos")
    # The validation split has a dozen images; the published model may misclassify some of them.
    local = Case(copied, folder / "local").run("evaluate.max_drop=0.9")
    cluster = _compiled(copied, folder / "cluster", "evaluate.max_drop=0.9")
    cluster.run()
    return Twins(copied, folder, local, cluster)


def _whole(cluster: Cluster) -> dict[str, Any]:
    """Assert that every task succeeded, and return the facts of the report."""
    failed = {name: cluster.logs[name][-2000:] for name, code in cluster.exit_codes.items() if code}
    assert not failed, "\n\n".join(f"{name}:\n{log}" for name, log in failed.items())
    assert set(cluster.exit_codes) == set(cluster.tasks)
    page = cluster.stored(cluster.outputs["Report"]["report"]["uri"])
    assert (page / "report.html").is_file()
    return dict(json.loads((page / "facts.json").read_text()))


def test_a_run_on_a_cluster_pushes_the_model_of_a_local_run(twins: Twins):
    local, cluster = twins.local, twins.cluster
    assert local.exit_code == 0, local.verdict
    facts = _whole(cluster)
    assert cluster.most_at_once == 2
    gate = {key: facts["gate"][key] for key in local.summary["gate"]}
    assert gate == local.summary["gate"]
    assert facts["data"]["by_split"] == local.summary["data"]["splits"]
    for component in ("ImageExampleGen", "ImageFilter"):
        (kept,) = (twins.folder / "local/artifacts" / component / "examples").glob("[0-9]*")
        found = records_of(cluster.stored(cluster.outputs[component]["examples"]["uri"]))
        assert found["train"] and found == records_of(kept), component
    ours, theirs = _pushed(twins.folder / "local"), _pushed(twins.folder / "cluster" / "out")
    assert theirs.identity == ours.identity
    assert theirs.run_key == ours.run_key


def test_later_runs_execute_only_what_new_images_or_settings_change(twins: Twins):
    from imgpipe.pipeline.demo import draw_hand

    first, models = twins.cluster, twins.folder / "cluster" / "out" / "model"
    executed = {"Plan", "ModelPusher", "Report"}
    same = first.again()
    same.run()
    assert set(same.exit_codes) - same.cached == executed

    for number, label in enumerate(("paper", "rock", "scissors")):
        draw_hand(label, 4242 + number, 112).save(twins.photos / label / "new.png")
    grown = same.again()
    grown.run()
    facts = _whole(grown)
    assert not facts["gate"]["failed"]
    assert facts["data"]["in"] == twins.local.summary["data"]["in"] + 3
    assert facts["gate"]["baseline"] is not None, "compared with the published version 1"
    assert grown.values["Plan"]["fingerprint"] != first.values["Plan"]["fingerprint"]
    assert grown.values["Plan"]["accepted_schema"], "the first run accepted one"
    assert manifest.version_numbers(models) == [1, 2]
    ingested = {"ImageExampleGen", "ImageFilter", "StatisticsGen", "SchemaGen", "ExampleValidator"}
    assert not grown.cached & ingested

    strict = grown.again(threshold=1.0, epochs=1)
    strict.run()
    assert _whole(strict)["gate"]["failed"] == ["threshold"]
    assert manifest.version_numbers(models) == [1, 2], "not blessed, not pushed"
    assert ingested <= strict.cached
    assert "ImageEvaluator" not in strict.cached

    again = strict.again(threshold=1.0, epochs=1)
    again.run()
    _whole(again)
    assert set(again.exit_codes) - again.cached == executed


def test_refused_data_stops_a_run_whose_tasks_have_another_user(photos: Path, volume: Path):
    cluster = _compiled(photos, volume, "gate.min_train=1000")
    cluster.user = other_user()
    if cluster.user is not None:
        os.chown(volume / "out", cluster.user, cluster.user)
    cluster.run()
    assert cluster.exit_codes["DataGate"] == 4, cluster.logs["DataGate"][-2000:]
    _, told = cluster.logs["DataGate"].rsplit("\nimgpipe: ", 1)
    assert "too few 'scissors' in train: expected at least 1000" in told
    assert not {"FeatureBank", "ImageTrainer", "ModelPusher"} & set(cluster.exit_codes)
    assert "blessing" not in cluster.outputs.get("DataGate", {})
    page = (_run_folder(cluster) / "report.html").read_text()
    assert "too few &#39;scissors&#39; in train" in page
    facts = json.loads((_run_folder(cluster) / "facts.json").read_text())
    assert facts["data_gate"]["blessed"] is False
    assert facts["rejects"], "the page shows the rejected images"
    assert (volume / "out" / "runs").stat().st_uid == (cluster.user or os.geteuid())


def test_a_failing_task_stops_a_run_of_real_container_commands(photos: Path, tmp_path: Path):
    moved = tmp_path / "photos"  # does not exist, which the compiler cannot know
    cluster = _compiled(moved, tmp_path / "cluster")
    cluster.forked = False
    cluster.run()
    assert cluster.exit_codes == {"Plan": 2}, cluster.logs["Plan"][-2000:]
    assert str(moved) in cluster.logs["Plan"].splitlines()[-1]
    told = json.loads((_run_folder(cluster) / "failure.json").read_text())
    assert (told["component"], told["exit_code"]) == ("Plan", 2) and str(moved) in told["cause"]
