"""The sections of a run: what it stores, asks for and publishes, and what it runs on."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from imgpipe.models import names
from imgpipe.models.settings.section import AUTOMATIC, LARGEST, OUTPUT, SettingsSection

#: Engines that are a cluster, which has an address.
CLUSTERS = ("flink", "spark", "portable")
#: Folders below / of a container that the launcher of Kubeflow Pipelines uses for artifacts.
_ARTIFACT_FOLDERS = ("minio", "s3", "gcs")


class RunSettings(SettingsSection):
    """Name of the pipeline, and folder of its results."""

    # The name is part of URLs, such as /v1/models/NAME:predict, in which these are plain.
    name: str = Field(
        names.SERVED_NAME,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$",
        description="Name of the pipeline: at most 63 letters, digits, `_`, `.` and `-`, of which "
        "the first is a letter or digit.",
    )
    out: Annotated[str, OUTPUT] = Field(
        "imgpipe-out",
        min_length=1,
        description="Folder of artifacts, metadata, feature bank, published versions and reports.",
    )
    keep: int = Field(
        3,
        ge=0,
        le=LARGEST,
        description="Number of runs that keep their artifacts. When a run has ended, those of "
        "earlier runs are removed, except where the next run or a published version needs them; "
        "reports and results stay. 0: all are kept.",
    )


class BankSettings(SettingsSection):
    """The feature bank: the frozen backbone's output, computed once for each image and view."""

    precision: Literal["auto", "bfloat16", "float32"] = Field(
        "auto",
        description="Precision of the computation. auto: bfloat16 if the CPU supports it, "
        "otherwise float32.",
    )
    store: Annotated[str, OUTPUT] = Field(
        "", description="Folder of the features, which are kept across runs. Empty: <out>/bank."
    )
    budget: float | None = Field(
        None,
        ge=0,
        examples=[20],
        description="Maximum size in GiB of the features of a run. Above it, fewer augmented views "
        "are stored, and then only the features that cost least (see model.features); if not "
        "even these fit, layers are trained on images instead. Not set: a quarter of the free "
        "disk space.",
    )


class EvaluateSettings(SettingsSection):
    """Requirements on a model to be blessed."""

    threshold: float = Field(
        0.9,
        ge=0,
        le=1,
        examples=[0.9],
        description="Minimum validation accuracy of a blessed model. 0 demands nothing, not even "
        "that it is better than always answering the most frequent class. If it is not set, that "
        "of the newest version in the output folder, and 0.9 without one.",
    )
    max_drop: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Maximum drop in accuracy compared with the last version, on the validation "
        "images that neither was trained on, all of them and those of each class. A drop that may "
        "be chance does not count.",
    )
    min_recall: float | None = Field(
        None,
        ge=0,
        le=1,
        examples=[0.5],
        description="Recall that each class must be able to have: the upper end of its interval, "
        "whose chance of 5 % is divided among the classes, must reach it. If it is not set, a "
        "quarter of the threshold.",
    )
    cross_validate: int = Field(
        AUTOMATIC,
        ge=AUTOMATIC,
        le=20,
        description="Number of folds over train and validation. Their accuracy must then "
        "reach the threshold, instead of the validation accuracy. 0: no folds. -1: 5 folds where "
        "a solved head is published and validation has fewer than 200 images or, unless the source "
        "names it, train and validation have at most 2,000; for a network that folds of the search "
        "have judged, those.",
    )
    tfma: bool = Field(
        False,
        description="Whether TensorFlow Model Analysis writes its result, by split and class, into "
        "the artifact `evaluation` of ImageEvaluator. It decides nothing. `imgpipe kubeflow "
        "compile` turns it on unless it is set.",
    )

    @model_validator(mode="after")
    def _more_than_one_fold(self) -> EvaluateSettings:
        if self.cross_validate == 1:
            raise ValueError(
                "cross_validate must be -1 (automatic), 0 (off) or 2 to 20 folds, received 1"
            )
        return self


class PushSettings(SettingsSection):
    """Published versions of blessed models."""

    keep: int = Field(
        3,
        ge=1,
        le=LARGEST,
        description="Number of versions that are kept; older ones are removed "
        "when a model is published.",
    )


class BeamSettings(SettingsSection):
    """Apache Beam, which runs the data components."""

    runner: Literal["local", "processes", "flink", "spark", "portable"] = Field(
        "local",
        description="Engine of the data components. local: this process. processes: worker "
        "processes on this machine, one for each core. flink, spark: a cluster (see docs/). "
        "portable: any job server of Beam.",
    )
    job_endpoint: str = Field(
        "",
        pattern=r"^$|^[^\s/:]+:\d{1,5}$",
        description="HOST:PORT of the job server of Beam, for flink, spark and portable.",
    )
    args: tuple[str, ...] = Field(
        (),
        description="Other pipeline options of Beam, such as --parallelism=4 or "
        "--environment_type=DOCKER; they win over those of imgpipe. An option --runner takes "
        "the place of beam.runner.",
    )

    @model_validator(mode="after")
    def _has_an_address(self) -> Self:
        if (self.runner in CLUSTERS) != bool(self.job_endpoint):
            raise ValueError(
                "beam.job_endpoint and a beam.runner that is a cluster (flink, spark, portable) "
                f"need each other. Received: {self.runner!r} and {self.job_endpoint!r}"
            )
        if self.runner != "local" and has_option(self.args, "--runner"):
            raise ValueError(
                "beam.runner and --runner in beam.args both name the engine; remove one of them"
            )
        return self


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


def has_option(options: tuple[str, ...], prefix: str) -> bool:
    """Return whether one of several options of a command line begins with a prefix."""
    return any(option.startswith(prefix) for option in options)
