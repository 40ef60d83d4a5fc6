"""The section ``[beam]`` of the configuration and its rules.

`beam_options.py` translates it to Beam's own options.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from imgpipe.pipeline.configuration.config_schema import SettingsSection

_HOST_PORT = r"^$|^[^\s/:]+:\d{1,5}$"
#: Spark takes the addresses of several masters, of which one is active.
_SPARK_URL = r"^$|^(spark://[^\s/:,]+:\d{1,5}(,[^\s/:,]+:\d{1,5})*|yarn|local(\[.+\])?)$"
#: Settings of Beam that only some runners use.
_RUNNERS_OF = {
    "flink_master": ("flink",),
    "spark_master_url": ("spark",),
    "job_endpoint": ("flink", "spark", "portable"),
    "parallelism": ("processes", "flink"),
    "environment": ("flink", "spark", "portable"),
    "environment_config": ("flink", "spark", "portable"),
}
#: What `environment_config` has to name, by the environment.
_NEEDED = {
    "EXTERNAL": "the address HOST:PORT of a worker pool",
    "DOCKER": "an image in which imgpipe is installed",
}


class Beam(SettingsSection):
    """Apache Beam, which runs the data components."""

    runner: Literal["local", "processes", "flink", "spark", "portable"] = Field(
        "local",
        description="Engine of the data components. local: this process. processes: worker "
        "processes on this machine. flink, spark: a cluster (see docs/). portable: any job "
        "server of Beam.",
    )
    flink_master: str = Field(
        "",
        pattern=_HOST_PORT,
        description="Address of Flink's JobManager (HOST:PORT of its REST interface). Beam then "
        "starts a job server on this machine, which needs Java.",
    )
    spark_master_url: str = Field(
        "",
        pattern=_SPARK_URL,
        description="Address of Spark's master (spark://HOST:PORT, yarn or local). Beam then "
        "starts a job server on this machine, which needs Java.",
    )
    job_endpoint: str = Field(
        "",
        pattern=_HOST_PORT,
        description="Address (HOST:PORT) of a job server that runs already, instead of "
        "flink_master or spark_master_url.",
    )
    parallelism: int = Field(
        0,
        ge=0,
        description="Number of bundles that are processed at a time: worker processes, or "
        "slots of Flink. 0: the runner decides.",
    )
    environment: Literal["", "LOOPBACK", "PROCESS", "EXTERNAL", "DOCKER"] = Field(
        "",
        description="Where Python workers run on flink, spark and portable. PROCESS: each host of "
        "the cluster starts imgpipe-beam-worker. EXTERNAL: in a pool that imgpipe-beam-worker "
        "--worker_pool serves on each host. DOCKER: in containers. LOOPBACK: in this process. "
        "Empty: PROCESS.",
    )
    environment_config: str = Field(
        "",
        description='PROCESS: JSON such as {"command": "/opt/venv/bin/imgpipe-beam-worker"}; '
        "empty: the script beside this Python. EXTERNAL: HOST:PORT of the pool, as each host of "
        "the cluster sees it. DOCKER: the image.",
    )
    args: tuple[str, ...] = Field(
        (),
        description="Other pipeline options of Beam, such as --flink_job_server_jar=FILE. An "
        "option --runner takes the place of beam.runner and of its settings.",
    )

    @model_validator(mode="after")
    def _settings_fit_the_runner(self) -> Beam:
        if self.runner != "local" and any(arg.startswith("--runner") for arg in self.args):
            raise ValueError(
                "beam.runner and --runner in beam.args both name the engine; remove one of them"
            )
        for name, runners in _RUNNERS_OF.items():
            if getattr(self, name) and self.runner not in runners:
                fitting = " or ".join(f'"{runner}"' for runner in runners)
                raise ValueError(
                    f"beam.{name} has an effect with beam.runner = {fitting} only, "
                    f'received beam.runner = "{self.runner}"'
                )
        self._require_address()
        if self.environment in _NEEDED and not self.environment_config:
            raise ValueError(
                f'beam.environment = "{self.environment}" needs {_NEEDED[self.environment]} in '
                "beam.environment_config"
            )
        return self

    def _require_address(self) -> None:
        wanted = {
            "flink": ("flink_master", "job_endpoint"),
            "spark": ("spark_master_url", "job_endpoint"),
            "portable": ("job_endpoint",),
        }.get(self.runner)
        if wanted and sum(bool(getattr(self, name)) for name in wanted) != 1:
            raise ValueError(
                f'beam.runner = "{self.runner}" needs {" or ".join(f"beam.{n}" for n in wanted)}'
                f"{', and only one of them' if len(wanted) > 1 else ''}, received "
                + ", ".join(f"{name} = {getattr(self, name)!r}" for name in wanted)
            )
