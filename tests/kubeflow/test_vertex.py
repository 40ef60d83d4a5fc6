"""Tests of a pipeline for Vertex AI, task by task on a bucket that Cloud Storage FUSE mounts.

The programs gcsfuse and fake-gcs-server are found through environment variables; docs/kubeflow.md
says how to build them. Without them the tests are skipped.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from imgpipe.components.model_pusher import versions
from imgpipe.components.storage import manifest
from tests.kubeflow import pod
from tests.kubeflow.bucket import BUCKET, Storage, storage
from tests.kubeflow.cluster import records_of
from tests.kubeflow.pipelines import compiled, draw, program, require_same_version
from tests.kubeflow.vertex import VertexCluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]


@dataclass(frozen=True)
class Mounted:
    """A folder of this machine with a mount of the bucket.

    Attributes:
        folder: Folder whose sub-folder ``gcs`` is what containers see as ``/gcs``.
        storage: The server of the bucket.
    """

    folder: Path
    storage: Storage

    @property
    def bucket(self) -> Path:
        """The bucket as a folder of this machine."""
        return self.folder / "gcs" / BUCKET


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    """Return a bucket with drawn images with planted faults."""
    programs = program("IMGPIPE_GCS_SERVER"), program("IMGPIPE_GCSFUSE")
    if not pod.possible() or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("this machine lets no process have mounts of its own, or has no /dev/fuse")
    folder = tmp_path_factory.mktemp("vertex")
    (folder / "gcs").mkdir()
    draw(folder / "photos")
    with storage(*programs) as server, server.mounted(folder / "gcs"):
        shutil.copytree(folder / "photos", folder / "gcs" / BUCKET / "photos")
        yield Mounted(folder, server)


def _run(mounted: Mounted, number: int, *settings: str) -> VertexCluster:
    """Compile the pipeline of the images in the bucket, and return its run with this number."""
    given = ('run.out="out"', *settings)
    volume, root = f"{{bucket = '{BUCKET}'}}", f"gs://{BUCKET}/root"
    output = mounted.folder / "pipeline.yaml"
    spec = yaml.safe_load(
        compiled(f"/gcs/{BUCKET}/photos", output, root, volume, *given).read_text()
    )
    cluster = VertexCluster(spec, mounted.folder, number=number, storage=mounted.storage)
    cluster.run()
    return cluster


def test_folders_of_the_bucket_cannot_be_renamed_and_versions_are_published(mounted: Mounted):
    base = mounted.bucket / "models"
    source = mounted.folder / "export"
    (source / "variables").mkdir(parents=True)
    (source / "saved_model.pb").write_bytes(b"graph")
    (source / "variables" / "variables.index").write_bytes(b"index")
    shutil.copytree(source, mounted.bucket / "copy")
    with pytest.raises(OSError, match="Too many open files"):
        (mounted.bucket / "copy").rename(mounted.bucket / "moved")
    for _ in range(3):
        versions.publish(base, {"": source}, {}, keep=2)
    assert manifest.version_numbers(base) == [2, 3]
    assert [manifest.damage(base / number, complete=True) for number in "23"] == ["", ""]
    assert not list(base.glob(".tmp-*"))


@pytest.fixture(scope="module")
def blessed(mounted: Mounted) -> VertexCluster:
    """Return a whole run."""
    return _run(mounted, 1, "evaluate.max_drop=0.9")


def test_a_run_on_a_bucket_pushes_the_model_of_a_local_run(
    mounted: Mounted, blessed: VertexCluster, tmp_path: Path
):
    facts = blessed.facts()
    base = mounted.bucket / "out" / "model"
    photos, out = mounted.folder / "photos", tmp_path / "local"
    local = require_same_version(base, photos, out, "evaluate.max_drop=0.9")
    assert {key: facts["gate"][key] for key in local.summary["gate"]} == local.summary["gate"]
    assert facts["data"]["by_split"] == local.summary["data"]["splits"]
    (kept,) = (out / "artifacts/ImageFilter/examples").glob("[0-9]*")
    found = records_of(blessed.stored(blessed.outputs["Data"]["ImageFilter_examples"]["uri"]))
    assert found["train"] and found == records_of(kept)
    assert (mounted.bucket / "out" / "runs" / blessed.run_id / "report.html").is_file()


def test_a_repeated_run_publishes_nothing(mounted: Mounted, blessed: VertexCluster):
    same = blessed.again()
    same.facts()
    assert set(same.exit_codes) - same.cached == {"Plan", "Publishing"}
    assert manifest.version_numbers(mounted.bucket / "out" / "model") == [1]


def test_refused_data_leave_a_report_in_the_folder_of_the_job(mounted: Mounted):
    cluster = _run(mounted, 3, "gate.min_train=1000", 'run.out="refused"')
    assert cluster.exit_codes["Data"] == 4, cluster.logs["Data"][-2000:]
    assert set(cluster.exit_codes) == {"Plan", "Data"}
    folder = mounted.bucket / "refused" / "runs" / cluster.run_id
    assert "too few &#39;scissors&#39; in train" in (folder / "report.html").read_text()
    facts = json.loads((folder / "facts.json").read_text())
    assert facts["data_gate"]["blessed"] is False
    assert facts["rejects"], "the page shows the rejected images"
