"""Tests of the compiled pipeline as Kubeflow Pipelines runs it, with a process for each task."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from imgpipe.components.common.storage import manifest
from tests.e2e.case import newest_artifact
from tests.kubeflow.cluster import Cluster, records_of
from tests.kubeflow.pipelines import compiled, draw, require_same_version

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

#: The validation split has a dozen images; the published model may misclassify some of them.
_LENIENT = "evaluate.max_drop=0.9"


@pytest.fixture(scope="module")
def volume() -> Iterator[Path]:
    """Return a folder that every user may read, like the volume of a cluster, with images."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        draw(Path(folder) / "photos")
        yield Path(folder)


def _compiled(photos: Path, folder: Path, *settings: str) -> Cluster:
    """Compile the pipeline of the images; its outputs are in `folder`, as on a mounted volume."""
    (folder / "out").mkdir(parents=True)
    places = {"results": folder, "data": photos}
    volumes = ", ".join(f"{{claim = '{claim}', path = '{path}'}}" for claim, path in places.items())
    given = ('run.out="out"', *settings)
    file = compiled(photos, folder / "pipeline.yaml", "minio://bucket/root", volumes, *given)
    spec, _ = yaml.safe_load_all(file.read_text())
    return Cluster(spec, folder)


def _told(cluster: Cluster, name: str) -> Any:
    """Return a JSON file of the run's folder on the volume, whose name is the id of the run."""
    return json.loads((cluster.folder / "out" / "runs" / cluster.run_id / name).read_text())


@pytest.fixture(scope="module")
def first(volume: Path) -> Cluster:
    """Return the first run of the compiled pipeline."""
    cluster = _compiled(volume / "photos", volume / "cluster", _LENIENT)
    cluster.run()
    return cluster


def test_a_run_on_a_cluster_pushes_the_model_of_a_local_run(
    first: Cluster, volume: Path, tmp_path: Path
):
    facts = first.facts()
    # From which `imgpipe kubeflow submit --wait` has the verdict.
    assert "the model is pushed: blessed" in first.logs["Publishing"]
    base = first.folder / "out" / "model"
    local = require_same_version(base, volume / "photos", tmp_path / "local", _LENIENT)
    assert {key: facts["gate"][key] for key in local.summary["gate"]} == local.summary["gate"]
    assert facts["data"]["by_split"] == local.summary["data"]["by_split"]
    for component in ("ImageExampleGen", "ImageFilter"):
        kept = newest_artifact(tmp_path / "local", component, "examples")
        found = records_of(first.stored(first.outputs["Data"][f"{component}_examples"]["uri"]))
        assert found["train"] and found == records_of(kept), component


def test_later_runs_execute_only_what_new_images_or_settings_change(first: Cluster, volume: Path):
    from imgpipe.pipeline.demo import draw_hand

    models = first.folder / "out" / "model"
    same = first.again()
    assert set(same.exit_codes) - same.cached == {"Plan", "Publishing"}

    for number, label in enumerate(("paper", "rock", "scissors")):
        draw_hand(label, 4242 + number, 112).save(volume / "photos" / label / "new.png")
    grown = same.again()
    facts = grown.facts()
    assert not facts["gate"]["failed"]
    assert facts["data"]["in"] == first.facts()["data"]["in"] + 3
    assert facts["gate"]["baseline"] is not None, "compared with the published version 1"
    assert grown.values["Plan"]["examples"] != first.values["Plan"]["examples"]
    assert grown.values["Plan"]["accepted_schema"], "the first run accepted one"
    assert manifest.version_numbers(models) == [1, 2]
    assert not grown.cached

    strict = grown.again(threshold=1.0, epochs=1)
    assert strict.facts()["gate"]["threshold"] == 1.0
    assert manifest.version_numbers(models) == [1, 2], "not blessed, or the same model"
    assert "Evaluation" not in strict.cached


def test_refused_data_stops_a_run_whose_tasks_have_another_user(volume: Path):
    """The administrator of a cluster decides as which user containers run."""
    cluster = _compiled(volume / "photos", volume / "refused", "gate.min_train=1000")
    nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    # Only the superuser can become somebody else, for whom this Python may not be readable.
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        readable = [sys.executable, "-c", "import imgpipe"]
        subprocess.run(readable, check=True, capture_output=True, **nobody)
        cluster.user = 65534
        os.chown(cluster.folder / "out", cluster.user, cluster.user)
    cluster.run()
    assert cluster.exit_codes["Data"] == 4, cluster.logs["Data"][-2000:]
    _, told = cluster.logs["Data"].rsplit("\nimgpipe: ", 1)
    assert "too few in train: expected at least 1000 of each class" in told
    assert set(cluster.exit_codes) == {"Plan", "Data"} and "Data" not in cluster.outputs
    runs = cluster.folder / "out" / "runs"
    page = (runs / cluster.run_id / "report.html").read_text()
    assert "too few in train" in page
    facts = _told(cluster, "facts.json")
    assert facts["data_gate"]["blessed"] is False
    assert facts["rejected"], "the page shows the rejected images"
    assert runs.stat().st_uid == (cluster.user or os.geteuid())


def test_a_failing_task_stops_a_run(tmp_path: Path):
    moved = tmp_path / "photos"  # does not exist, which the compiler cannot know
    cluster = _compiled(moved, tmp_path / "cluster")
    cluster.run()
    assert cluster.exit_codes == {"Plan": 2}, cluster.logs["Plan"][-2000:]
    assert str(moved) in cluster.logs["Plan"].splitlines()[-1]
    told = _told(cluster, "failure.json")
    assert (told["component"], told["exit_code"]) == ("Plan", 2) and str(moved) in told["cause"]
