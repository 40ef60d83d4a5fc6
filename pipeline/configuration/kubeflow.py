"""The section `[kubeflow]` of the configuration and its rules."""

from __future__ import annotations

from pathlib import PurePosixPath

from pydantic import ConfigDict, Field, field_validator

from imgpipe.components.common.settings import SettingsSection

#: Folders below / of a container that the launcher of Kubeflow Pipelines uses for artifacts.
_ARTIFACT_FOLDERS = ("minio", "s3", "gcs")


class Volume(SettingsSection):
    """A volume that every container of a pipeline mounts."""

    claim: str = Field(
        pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        description="Name of a persistent volume claim in lower-case letters, digits, hyphens and "
        "dots.",
    )
    path: str = Field(description="Absolute path at which the containers mount the claim.")

    @field_validator("path")
    @classmethod
    def _is_a_folder_of_its_own(cls, path: str) -> str:
        parts = PurePosixPath(path).parts
        if len(parts) < 2 or parts[0] != "/" or ".." in parts:
            raise ValueError(f"path must be an absolute folder such as /data, received {path!r}")
        if parts[1] in _ARTIFACT_FOLDERS:
            raise ValueError(
                f"path must not lie below /{parts[1]}, where Kubeflow Pipelines puts the "
                f"artifacts, received {path!r}"
            )
        return path


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
        description="Volumes that every container mounts, as tables {claim, path}. Relative paths "
        "of other settings, such as run.out, are relative to the first of them.",
    )
    resources: dict[str, Resources] = Field(
        {},
        description="Limits of the containers, as tables {cpu, memory, gpu} by task: Plan, Data, "
        "Training, Evaluation or Publishing; 'default' holds for all without an entry.",
    )

    @field_validator("volumes")
    @classmethod
    def _have_different_paths(cls, volumes: tuple[Volume, ...]) -> tuple[Volume, ...]:
        paths = [volume.path for volume in volumes]
        if len(set(paths)) < len(paths):
            raise ValueError(f"volumes must have different paths, received {', '.join(paths)}")
        return volumes
