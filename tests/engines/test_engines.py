"""The whole pipeline on clusters: the records, features and verdicts of the local runner.

Every run is a process of its own on the same photographs. Workers are processes of
`imgpipe-beam-worker` that the cluster starts.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgpipe.models import feature_names as names
from tests.engines import clusters

pytestmark = [pytest.mark.engines, pytest.mark.timeout(3600)]

_DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "cats_dogs"
_EACH = 70  # photographs of each class
_SETTINGS = (
    *("model.image_size=96", "views.count=1", "train.epochs=4", "run.name=engines"),
    *("evaluate.threshold=0.5", "gate.max_rejected_share=0.5", "fine_tune.mode=off"),
)
#: Features may differ in the last bits, because batches are cut in other places.
_TOLERANCE = 2e-2


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real photographs of two classes, or drawn images where these are missing, and one fault."""
    folder = tmp_path_factory.mktemp("engines") / "photos"
    if _DATA.is_dir():
        for label in ("cat", "dog"):
            (folder / label).mkdir(parents=True)
            for file in sorted((_DATA / label).iterdir())[:_EACH]:
                shutil.copy(file, folder / label)
    else:
        from imgpipe.pipeline.demo import draw

        folder = Path(draw(folder, per_class=40, size=96).directory)
    first = min(path for path in folder.rglob("*") if path.is_file())
    (first.parent / "cut_off.jpg").write_bytes(first.read_bytes()[:400])
    return folder


def start(photos: Path, out: Path, *assignments: str) -> subprocess.Popen[bytes]:
    """Start ``imgpipe run``; its output goes to a file beside `out`."""
    sets = [part for one in (*_SETTINGS, *assignments) for part in ("--set", one)]
    command = [sys.executable, "-m", "imgpipe.pipeline.cli", "run", "--data", str(photos)]
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.with_suffix(".txt").open("wb") as text:
        return subprocess.Popen([*command, "--out", str(out), *sets], stdout=text, stderr=text)


def outcome(process: subprocess.Popen[bytes], out: Path, seconds: float = 3000) -> dict[str, Any]:
    """What a blessed run left, in canonical order."""
    from imgpipe.components.records import iterate, serialise

    try:
        code = process.wait(timeout=seconds)
    finally:
        process.kill()
    assert code == 0, out.with_suffix(".txt").read_text(errors="replace")[-3000:]

    def folder(component: str, output: str) -> Path:
        return max((out / "artifacts" / component / output).iterdir(), key=lambda p: int(p.name))

    def examples(uri: Path) -> list[Any]:
        return [example for split in names.SPLITS for example in iterate(str(uri), split)]

    quarantine = folder("ImageFilter", "quarantine")
    rejects = [json.loads(x) for x in (quarantine / "manifest.jsonl").read_text().splitlines()]
    bank = examples(folder("FeatureBank", "features"))
    return {
        "ingested": sorted(map(serialise, examples(folder("ImageExampleGen", "examples")))),
        "kept": sorted(map(serialise, examples(folder("ImageFilter", "examples")))),
        "rejects": sorted(rejects, key=lambda reject: reject["path"]),
        "features": dict(sorted(map(_features, bank))),
        "status": json.loads(max(out.glob("runs/*/summary.json")).read_text())["status"],
        "leftovers": [str(path) for path in (out / "artifacts").rglob(".tmp-*")],
    }


def _features(example: Any) -> tuple[tuple[bytes, int], np.ndarray]:
    from imgpipe.components import records

    key = records.raw(example, names.PATH), records.integer(example, names.VIEW)
    return key, np.frombuffer(records.raw(example, names.FEATURES), "<f2").astype(np.float32)


@pytest.fixture(scope="module")
def expected(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the local runner makes."""
    out = tmp_path_factory.mktemp("local") / "out"
    return outcome(start(photos, out), out)


def require_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Compare two outcomes."""
    assert expected["ingested"] and expected["rejects"]
    assert not found["leftovers"]
    for part in ("ingested", "kept", "rejects", "status"):
        assert found[part] == expected[part], part
    assert found["features"].keys() == expected["features"].keys()
    for key, vector in expected["features"].items():
        np.testing.assert_allclose(found["features"][key], vector, atol=_TOLERANCE, rtol=_TOLERANCE)


def test_flink(photos, expected, tmp_path):
    """Standalone Flink: a JobManager and two TaskManagers."""
    out = tmp_path / "out"
    with clusters.flink(tmp_path / "cluster") as cluster:
        address = f"beam.job_endpoint={cluster.endpoint}"
        run = start(photos, out, "beam.runner=flink", "beam.parallelism=2", address)
        require_same(outcome(run, out), expected)
    assert not [path for name in ("bank", "judge") for path in (out / name).rglob("*.sqlite*")]


def test_flink_loses_a_task_manager(photos, expected, tmp_path):
    """A TaskManager is killed while ImageFilter works; the other one does all of it."""
    out = tmp_path / "out"
    with clusters.flink(tmp_path / "cluster") as cluster:
        address = f"beam.job_endpoint={cluster.endpoint}"
        run = start(photos, out, "beam.runner=flink", "beam.parallelism=2", address)
        killed = threading.Thread(
            target=_kill_at, args=(cluster, out / "artifacts" / "ImageFilter")
        )
        killed.start()
        try:
            require_same(outcome(run, out), expected)
        finally:
            killed.join(timeout=60)
        assert cluster.processes.running["taskmanager-0"].returncode == -9


def _kill_at(cluster: clusters.Cluster, folder: Path, seconds: float = 1500) -> None:
    """Kill a TaskManager as soon as a component writes the files of its first pass."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not list(folder.glob("*/*/.parts/*")):
        time.sleep(0.1)
    cluster.processes.kill("taskmanager-0")


def test_spark(photos, expected, tmp_path):
    """Standalone Spark: a master and two workers."""
    out = tmp_path / "out"
    with clusters.spark(tmp_path / "cluster") as cluster:
        address = f"beam.job_endpoint={cluster.endpoint}"
        require_same(outcome(start(photos, out, "beam.runner=spark", address), out), expected)
