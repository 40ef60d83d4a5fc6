"""The pipeline options of Beam that the section `[beam]` stands for."""

from __future__ import annotations

import json

from imgpipe.components.common.beam import worker_start
from imgpipe.models.settings.running import CLUSTERS, BeamSettings, has_option

#: The types of the steps of our components and of TFX's are checked by the tests, which run them on
#: other engines too. Checked again in each run, they take a sixth of ImageEvaluator's time.
_TYPES_KNOWN = "--no_pipeline_type_check"
#: A Python worker that has nothing to do lives on for a minute. By default, Flink and Spark end
#: their workers after each stage, and every start imports TensorFlow again.
_KEEP_WORKERS = "--environment_cache_millis=60000"


def arguments(beam: BeamSettings) -> list[str]:
    """Return the pipeline options of all components, as they are written on a command line.

    Those of `beam.args` come last, so that they win over the others; TFX puts the options of a
    single component behind them.
    """
    options = [] if has_option(beam.args, "--runner") else _runner(beam)
    # Without a container image or a package, TFX packs itself into an archive for every component.
    # That takes 3.6 s each, and workers need imgpipe too, so they have an installation anyway.
    if not has_option(beam.args, "--sdk_container_image="):
        options.append("--sdk_container_image=none")
    # The plugin loads in each worker what it needs to unpickle the functions of TFX's components.
    if not has_option(beam.args, "--beam_plugin"):
        options.append("--beam_plugins=imgpipe.components.common.beam.beam_worker")
    return [*options, *beam.args]


def _runner(beam: BeamSettings) -> list[str]:
    """Return the options for the runner, its address and its Python workers."""
    if beam.runner in CLUSTERS:
        options = ["--runner=PortableRunner", f"--job_endpoint={beam.job_endpoint}", _KEEP_WORKERS]
        if not has_option(beam.args, "--environment_type"):
            command = json.dumps({"command": str(worker_start.script())})
            options += ["--environment_type=PROCESS", f"--environment_config={command}"]
        return options
    # DirectRunner would try PrismRunner first, which downloads a program while the run is going on:
    # https://github.com/apache/beam/pull/34612
    options = ["--runner=FnApiRunner", _TYPES_KNOWN]
    if beam.runner == "processes":  # 0 workers are one for each core
        options += ["--direct_running_mode=multi_processing", "--direct_num_workers=0"]
    return options
