"""A fake Vertex AI Pipelines, whose containers see buckets below ``/gcs``.

Each task is the container's command in a root of its own, with a mount of its own of Cloud Storage
FUSE, as if each ran on another machine.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tests.kubeflow import container
from tests.kubeflow.bucket import Storage
from tests.kubeflow.cluster import Cluster
from tests.kubeflow.pod import isolated

PROJECT = 123456789012
_SCHEME = "gs://"
_SECONDS = 1200


@dataclass(kw_only=True)
class VertexCluster(Cluster):
    """One run of a compiled pipeline.

    Attributes:
        storage: The server of the bucket. `folder` has a mount of it in its sub-folder ``gcs``.
    """

    storage: Storage
    added: ClassVar[dict[str, Any]] = {}

    @property
    def run_id(self) -> str:
        """The id of the job, in the form that the client of Vertex AI gives it."""
        return f"{self.spec['pipelineInfo']['name']}-{20260101000000 + self.number}"

    def stored(self, uri: str) -> Path:
        """Return the folder of the mount that holds an artifact."""
        assert uri.startswith(_SCHEME), uri
        return self.folder / "gcs" / uri.removeprefix(_SCHEME)

    def _place(self, name: str) -> str:
        root = self.spec["defaultPipelineRoot"]
        return f"{root}/{PROJECT}/{self.run_id}/{name}_-{next(self._numbers)}"

    def _output_file(self, place: str, pod: Path) -> str:
        return f"/gcs/{place.removeprefix(_SCHEME)}/executor_output.json"

    def _written(self, file: str) -> Path:
        return self.folder / file.lstrip("/")

    def _input(self, source: dict[str, str]) -> dict[str, Any]:
        """Return an input artifact with its type."""
        producer, key = source["producerTask"], source["outputArtifactKey"]
        declared = self._component(self.tasks[producer])["outputDefinitions"]["artifacts"]
        return {**self.outputs[producer][key], "type": declared[key]["artifactType"]}

    def _execute(self, pod: Path, given: dict[str, Any], words: list[str]) -> tuple[int, str]:
        own, root = pod / "own", pod / "root"
        root.mkdir()
        for name in ("tmp", "run", "gcs", ".cache"):
            (own / name).mkdir(parents=True)
        with self.storage.mounted(own / "gcs"):
            ended = subprocess.run(
                isolated(own, root, {}, words),
                env=container.environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=_SECONDS,
            )
        return ended.returncode, ended.stdout
