"""The section `[beam]` of the configuration, and the pipeline options of Beam that it means."""

from __future__ import annotations

import json
from typing import Literal, Self

from pydantic import Field, model_validator

from imgpipe.components.common.beam import worker_start
from imgpipe.components.common.settings import SettingsSection

_CLUSTERS = ("flink", "spark", "portable")
#: The types of the steps of our components and of TFX's are checked by the tests, which run them on
#: other engines too. Checked again in each run, they take a sixth of ImageEvaluator's time.
_TYPES_KNOWN = "--no_pipeline_type_check"
#: A Python worker that has nothing to do lives on for a minute. By default, Flink and Spark end
#: their workers after each stage, and every start imports TensorFlow again.
_KEEP_WORKERS = "--environment_cache_millis=60000"


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
