"""The sections of the run itself, of Beam and of Kubeflow, and the places that they name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from imgpipe.components.common.beam import worker_start
from imgpipe.components.data_gate.accepted import SCHEMA_FILE
from imgpipe.components.data_gate.settings import GATE_FILE
from imgpipe.models import names
from imgpipe.models.settings.section import LARGEST, OUTPUT, SettingsSection

DECISIONS = "overrides.toml"  # in the output folder: the decisions of a review
_CLUSTERS = ("flink", "spark", "portable")
#: The types of the steps of our components and of TFX's are checked by the tests, which run them on
#: other engines too. Checked again in each run, they take a sixth of ImageEvaluator's time.
_TYPES_KNOWN = "--no_pipeline_type_check"
#: A Python worker that has nothing to do lives on for a minute. By default, Flink and Spark end
#: their workers after each stage, and every start imports TensorFlow again.
_KEEP_WORKERS = "--environment_cache_millis=60000"
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
        if (self.runner in _CLUSTERS) != bool(self.job_endpoint):
            raise ValueError(
                "beam.job_endpoint and a beam.runner that is a cluster (flink, spark, portable) "
                f"need each other. Received: {self.runner!r} and {self.job_endpoint!r}"
            )
        if self.runner != "local" and _names(self.args, "--runner"):
            raise ValueError(
                "beam.runner and --runner in beam.args both name the engine; remove one of them"
            )
        return self


def arguments(beam: BeamSettings) -> list[str]:
    """Return the pipeline options of all components, as they are written on a command line.

    Those of `beam.args` come last, so that they win over the others; TFX puts the options of a
    single component behind them.
    """
    options = [] if _names(beam.args, "--runner") else _runner(beam)
    # Without a container image or a package, TFX packs itself into an archive for every component.
    # That takes 3.6 s each, and workers need imgpipe too, so they have an installation anyway.
    if not _names(beam.args, "--sdk_container_image="):
        options.append("--sdk_container_image=none")
    # The plugin loads in each worker what it needs to unpickle the functions of TFX's components.
    if not _names(beam.args, "--beam_plugin"):
        options.append("--beam_plugins=imgpipe.components.common.beam.beam_worker")
    return [*options, *beam.args]


def _names(options: tuple[str, ...], prefix: str) -> bool:
    return any(option.startswith(prefix) for option in options)


def _runner(beam: BeamSettings) -> list[str]:
    """Return the options for the runner, its address and its Python workers."""
    if beam.runner in _CLUSTERS:
        options = ["--runner=PortableRunner", f"--job_endpoint={beam.job_endpoint}", _KEEP_WORKERS]
        if not _names(beam.args, "--environment_type"):
            command = json.dumps({"command": str(worker_start.script())})
            options += ["--environment_type=PROCESS", f"--environment_config={command}"]
        return options
    # DirectRunner would try PrismRunner first, which downloads a program while the run is going on:
    # https://github.com/apache/beam/pull/34612
    options = ["--runner=FnApiRunner", _TYPES_KNOWN]
    if beam.runner == "processes":  # 0 workers are one for each core
        options += ["--direct_running_mode=multi_processing", "--direct_num_workers=0"]
    return options


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


@dataclass(frozen=True)
class Places:
    """Absolute paths of a run.

    Attributes:
        out: Output folder.
        versions: Base path of the published versions.
        bank: Folder of the stored features.
        judge: Folder of the inspection cache.
        overrides: File of the decisions about single images; None if there is none.
    """

    out: Path
    versions: Path
    bank: Path
    judge: Path
    overrides: Path | None

    @property
    def outputs(self) -> dict[str, Path]:
        """The folders to which a run writes, by the setting that names each of them."""
        return {
            "run.out": self.out,
            "bank.store": self.bank,
            "judge.store": self.judge,
        }

    @property
    def schema(self) -> Path:
        """The accepted schema, whether or not it exists yet."""
        return self.out / "schema" / SCHEMA_FILE

    @property
    def features(self) -> Path:
        """Folder of what FeatureBank decides once: axes of covariances, and what a head reads."""
        return self.out / "features"

    @property
    def answers(self) -> Path:
        """Folder of the answers of models to the held-out images, which ImageEvaluator keeps."""
        return self.out / "answers"

    @property
    def decision(self) -> Path:
        """A copy of DataGate's decision, as TFX removes the outputs after an error."""
        return self.out / GATE_FILE


def absolute_path(given: str | Path) -> Path:
    """Return the absolute path of a setting, in which `~` may stand for the user's folder."""
    return Path(given).expanduser().absolute()
