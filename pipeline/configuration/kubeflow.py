"""The section `[kubeflow]` of the configuration and its rules."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from imgpipe.components.common.settings import SettingsSection

#: Folders below / of a container that the launcher of Kubeflow Pipelines uses for artifacts.
_ARTIFACT_FOLDERS = ("minio", "s3", "gcs")


class Volume(SettingsSection):
    """A folder that every container of a pipeline shares: a volume claim, or a bucket."""

    claim: str = Field(
        "",
        pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$",
        description="Name of a persistent volume claim in lower-case letters, digits, hyphens and "
        "dots, on Kubeflow Pipelines.",
    )
    path: str = Field("", description="Absolute path at which the containers mount the claim.")
    bucket: str = Field(
        "",
        pattern=r"^([a-z0-9][-_.a-z0-9]{1,220}[a-z0-9])?$",
        description="Name of a bucket of Cloud Storage, without gs://, instead of a claim, on "
        "Vertex AI Pipelines. The containers see it as /gcs/BUCKET.",
    )

    @model_validator(mode="after")
    def _is_a_claim_or_a_bucket(self) -> Self:
        given = {name: value for name, value in self if value}
        if set(given) not in ({"claim", "path"}, {"bucket"}):
            raise ValueError(
                "expected {claim, path} for a volume of Kubernetes, or {bucket} for a bucket on "
                f"Vertex AI, received {', '.join(given) or 'nothing'}"
            )
        parts = PurePosixPath(self.path).parts
        if self.path and (parts[0] != "/" or len(parts) < 2 or ".." in parts):
            raise ValueError(
                f"path must be an absolute folder such as /data, received {self.path!r}"
            )
        if self.path and parts[1] in _ARTIFACT_FOLDERS:
            raise ValueError(
                f"path must not lie below /{parts[1]}, where Kubeflow Pipelines puts the "
                f"artifacts, received {self.path!r}"
            )
        return self


class Resources(SettingsSection):
    """Limits of a container, in the notation of Kubernetes."""

    # `cpu = 2` is as good as `cpu = "2"`; Kubernetes takes quantities as texts.
    model_config = ConfigDict(coerce_numbers_to_str=True)

    cpu: str = Field(
        "",
        pattern=r"^(\d+(\.\d+)?|\d+m)?$",
        description="CPUs, such as 2 or 500m. Empty: no limit.",
    )
    memory: str = Field(
        "",
        pattern=r"^(\d+(\.\d+)?([KMGTPE]i|[kMGTPE])?)?$",
        description="Memory, such as 4Gi. Empty: no limit.",
    )
    gpu: int = Field(0, ge=0, description="Number of GPUs.")
    gpu_type: str = Field(
        "nvidia.com/gpu", min_length=1, description="Resource name of a GPU in the cluster."
    )


class KubeflowSettings(SettingsSection):
    """Kubeflow Pipelines: image, volumes and resources of the containers."""

    image: str = Field(
        "imgpipe:latest",
        min_length=1,
        description="Container image with imgpipe and kfp installed.",
    )
    volumes: tuple[Volume, ...] = Field(
        (),
        description="Volumes that every container mounts, as tables {claim, path}; for Vertex AI "
        "Pipelines, buckets as tables {bucket}, each of which is the folder /gcs/BUCKET. Relative "
        "paths of other settings, such as run.out, are relative to the first of them.",
    )
    resources: dict[str, Resources] = Field(
        {},
        description="Limits of the containers, as tables {cpu, memory, gpu} by task: Plan, Data, "
        "Training, Evaluation or Publishing; 'default' holds for all without an entry.",
    )

    @field_validator("volumes")
    @classmethod
    def _belong_together(cls, volumes: tuple[Volume, ...]) -> tuple[Volume, ...]:
        names = {volume.path or volume.bucket for volume in volumes}
        if len({bool(volume.bucket) for volume in volumes}) > 1 or len(names) < len(volumes):
            raise ValueError(
                "volumes must be all claims with different paths, for Kubeflow Pipelines, or all "
                f"different buckets, for Vertex AI, received {', '.join(sorted(names))}"
            )
        return volumes

    @property
    def on_vertex(self) -> bool:
        """Whether the containers run on Vertex AI Pipelines, because they share buckets."""
        return any(volume.bucket for volume in self.volumes)
