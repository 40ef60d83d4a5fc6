"""The section ``[kubeflow]`` of the configuration and its rules."""

from __future__ import annotations

from pathlib import PurePosixPath

from pydantic import ConfigDict, Field, field_validator

from imgpipe.pipeline.configuration.config_schema import Section

#: A Kubernetes object name (RFC 1123 subdomain).
_CLAIM = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
#: Folders below / of a container that the launcher of Kubeflow Pipelines uses for artifacts.
_ARTIFACT_FOLDERS = ("minio", "s3", "gcs")


class Volume(Section):
    """A persistent volume claim that every container of a pipeline on Kubeflow mounts."""

    claim: str = Field(
        pattern=_CLAIM, max_length=253, description="Name of the persistent volume claim."
    )
    path: str = Field(description="Absolute path at which the containers mount it.")

    @field_validator("path")
    @classmethod
    def _is_absolute(cls, path: str) -> str:
        found = PurePosixPath(path)
        if not found.is_absolute() or found == PurePosixPath("/") or ".." in found.parts:
            raise ValueError(f"path must be an absolute folder such as /data, received {path!r}")
        if found.parts[1] in _ARTIFACT_FOLDERS:
            raise ValueError(
                f"path must not lie below /{found.parts[1]}, where Kubeflow Pipelines puts the "
                f"artifacts, received {path!r}"
            )
        return str(found)


class Resources(Section):
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
        pattern=r"^(\d+(\.\d+)?([KMGTPE]i?|k)?)?$",
        description="Memory, such as 4Gi. Empty: no limit.",
    )
    gpu: int = Field(0, ge=0, description="Number of GPUs.")
    gpu_type: str = Field(
        "nvidia.com/gpu", min_length=1, description="Resource name of a GPU in the cluster."
    )


class Kubeflow(Section):
    """Kubeflow Pipelines: image, volumes and resources of the containers."""

    image: str = Field(
        "imgpipe:latest",
        min_length=1,
        description="Container image with imgpipe and kfp installed.",
    )
    volumes: tuple[Volume, ...] = Field(
        (),
        description="Volumes that every container mounts, as tables {claim, path}. Relative paths "
        "of other settings, such as run.out, are relative to the first volume's path.",
    )
    resources: dict[str, Resources] = Field(
        {},
        description="Limits of the containers, as tables {cpu, memory, gpu} by component name; "
        "'default' holds for all components without an entry.",
    )
    retries: int = Field(
        1,
        ge=0,
        le=10,
        description="How often a failed task is tried again. DataGate is never tried again, "
        "because it would decide the same.",
    )

    @field_validator("volumes")
    @classmethod
    def _have_paths_of_their_own(cls, volumes: tuple[Volume, ...]) -> tuple[Volume, ...]:
        paths = [volume.path for volume in volumes]
        if len(set(paths)) < len(paths):
            raise ValueError(f"volumes must have different paths, received {', '.join(paths)}")
        return volumes
