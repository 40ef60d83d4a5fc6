"""Translates the section ``[beam]`` of the configuration into pipeline options of Beam."""

from __future__ import annotations

import argparse
import json

from imgpipe.components.beam import worker_start
from imgpipe.models.errors import ConfigError
from imgpipe.pipeline.configuration.beam_schema import Beam

#: Loads in each worker what it needs to unpickle the functions of TFX's components.
_PLUGIN = "--beam_plugins=imgpipe.components.beam.beam_worker"
#: Without a container image or a package, TFX packs itself into an archive for every component.
#: That takes 3.6 s each, and workers need imgpipe too, so they have an installation anyway.
_PACKED = "--sdk_container_image="
_NO_PACKING = f"{_PACKED}none"
_REMOTE_ENGINES = ("flink", "spark", "portable")
#: Values of `beam.runner` with which all work is done on this machine, by processes of this run.
LOCAL_RUNNERS = ("local", "processes")
_LOOPBACK = "--environment_type=LOOPBACK"
#: The types of the steps of our components and of TFX's are checked by the tests, which run them on
#: other engines too. Checked again in each run, they take a sixth of ImageEvaluator's time.
_TYPES_KNOWN = "--no_pipeline_type_check"
#: A Python worker that has nothing to do lives on for a minute. By default, Flink and Spark end
#: their workers after each stage, and every start imports TensorFlow again.
_KEEP_WORKERS = "--environment_cache_millis=60000"


def arguments(beam: Beam) -> list[str]:
    """Return the pipeline options of all components.

    Args:
        beam: The section of the configuration.

    Returns:
        Options as they are written on a command line. Those of `beam.args` come last, so that they
        win over the others; TFX puts the options of a single component behind them.
    """
    given = list(beam.args)
    options = [] if _names(given, "--runner") else [*_runner(beam), *_environment(beam)]
    if not _names(given, _PACKED):
        options.append(_NO_PACKING)
    if not _names(given, "--beam_plugin"):
        options.append(_PLUGIN)
    return [*options, *given]


def require_local_workers(beam: Beam) -> None:
    """Check that the components of a pipeline on Kubeflow do not send their work elsewhere.

    Args:
        beam: The section of the configuration of a pipeline that is compiled.

    Raises:
        ConfigError: The runner is a cluster.
    """
    engine = _engine(beam)
    if engine in _REMOTE_ENGINES:
        raise ConfigError(
            "Kubeflow Pipelines puts the artifacts of a component into its container, where the "
            f'workers of a cluster cannot read them. Expected: beam.runner = "local" or '
            f'"processes", which uses all cores of the container. Received: {engine!r}. For Flink '
            "or Spark, use `imgpipe run` on a host of the cluster."
        )


def _engine(beam: Beam) -> str:
    """Return the engine that `beam.runner` or ``--runner`` names, such as "flink".

    Beam accepts its name in any case, with and without "Runner", and as the path of a class.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--runner", default="")
    runner = str(parser.parse_known_args(beam.args)[0].runner) or beam.runner
    return runner.rpartition(".")[2].lower().removesuffix("runner")


def _names(options: list[str], prefix: str) -> bool:
    return any(option.startswith(prefix) for option in options)


def _runner(beam: Beam) -> list[str]:
    """Return the options for the runner, its address and its number of workers."""
    if beam.runner in ("flink", "spark", "portable"):
        parallelism = [f"--parallelism={beam.parallelism}"] if beam.parallelism else []
        return [*_address(beam), *parallelism]
    if beam.runner == "processes":
        processes = f"--direct_num_workers={beam.parallelism}"  # 0 is one for each core
        multi_processing = "--direct_running_mode=multi_processing"
        return ["--runner=FnApiRunner", multi_processing, processes, _TYPES_KNOWN]
    # DirectRunner would try PrismRunner first, which downloads a program while the run is going on:
    # https://github.com/apache/beam/pull/34612
    return ["--runner=FnApiRunner", _TYPES_KNOWN]


def _address(beam: Beam) -> list[str]:
    if beam.job_endpoint:
        return ["--runner=PortableRunner", f"--job_endpoint={beam.job_endpoint}"]
    if beam.runner == "flink":
        return ["--runner=FlinkRunner", f"--flink_master={beam.flink_master}"]
    return ["--runner=SparkRunner", f"--spark_master_url={beam.spark_master_url}"]


def _environment(beam: Beam) -> list[str]:
    """Return the options that say where the runner finds or starts its Python workers."""
    if beam.runner in LOCAL_RUNNERS:
        return []
    kind = beam.environment or "PROCESS"
    config = beam.environment_config
    if kind == "PROCESS" and not config:
        config = json.dumps({"command": str(worker_start.script())})
    environment = [f"--environment_config={config}"] if config else []
    return [f"--environment_type={kind}", *environment, _KEEP_WORKERS]
