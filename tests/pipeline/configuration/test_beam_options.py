"""Tests of the section [beam]: refused settings, and the options that Beam receives."""

from __future__ import annotations

import json
import re

import pytest

from imgpipe.models.errors import ConfigError
from imgpipe.pipeline.configuration import beam_options
from imgpipe.pipeline.configuration import config as configs

FLINK = {"runner": "flink", "flink_master": "jobmanager:8081"}


def options(**beam: object) -> list[str]:
    """Return the options that Beam receives for a section [beam]."""
    return beam_options.arguments(configs.build({"beam": beam}).beam)


@pytest.mark.parametrize(
    ("beam", "message"),
    [
        ({"runner": "flnk"}, "beam.runner: input should be 'local', 'processes', 'flink'"),
        ({"runner": "flink"}, "needs beam.flink_master or beam.job_endpoint, and only one"),
        ({**FLINK, "job_endpoint": "h:1"}, "received flink_master = 'jobmanager:8081', job_end"),
        ({"runner": "spark"}, "needs beam.spark_master_url or beam.job_endpoint"),
        ({"runner": "portable"}, 'runner = "portable" needs beam.job_endpoint, received job_end'),
        (
            {"flink_master": "h:1"},
            'with beam.runner = "flink" only, received beam.runner = "l',
        ),
        ({"parallelism": 2}, 'beam.parallelism has an effect with beam.runner = "processes" or'),
        (
            {**FLINK, "flink_master": "http://h:1"},
            "flink_master: expected: Address of Flink's JobManager (HOST:PORT of its REST inte",
        ),
        ({"runner": "spark", "spark_master_url": "h:7077"}, "expected: Address of Spark's mas"),
        ({**FLINK, "environment": "EXTERNAL"}, 'EXTERNAL" needs the address HOST:PORT of a worker'),
        ({**FLINK, "environment": "DOCKER"}, 'DOCKER" needs an image in which imgpipe is inst'),
        ({**FLINK, "args": ["--runner=FlinkRunner"]}, "both name the engine; remove one of them"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(beam, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        configs.build({"beam": beam})


def test_each_runner_gets_its_options():
    worker = json.dumps({"command": str(beam_options.worker_start.script())})
    common = [
        "--sdk_container_image=none",
        "--beam_plugins=imgpipe.components.beam.beam_worker",
    ]
    # Without this option, a runner ends its workers after each stage.
    kept = "--environment_cache_millis=60000"
    process = ["--environment_type=PROCESS", f"--environment_config={worker}", kept]
    unchecked = "--no_pipeline_type_check"
    assert options() == ["--runner=FnApiRunner", unchecked, *common]
    assert options(runner="processes", parallelism=3) == [
        "--runner=FnApiRunner",
        "--direct_running_mode=multi_processing",
        "--direct_num_workers=3",
        unchecked,
        *common,
    ]
    assert options(**FLINK, parallelism=2, args=["--flink_version=1.20"]) == [
        "--runner=FlinkRunner",
        "--flink_master=jobmanager:8081",
        "--parallelism=2",
        *process,
        *common,
        "--flink_version=1.20",
    ]
    pool = {"environment": "EXTERNAL", "environment_config": "localhost:50000"}
    configs.build({"beam": {"runner": "spark", "spark_master_url": "spark://h1:7077,h2:7077"}})
    assert options(runner="spark", spark_master_url="spark://h:7077", **pool) == [
        "--runner=SparkRunner",
        "--spark_master_url=spark://h:7077",
        "--environment_type=EXTERNAL",
        "--environment_config=localhost:50000",
        kept,
        *common,
    ]
    assert options(runner="portable", job_endpoint="h:8099", environment="LOOPBACK") == [
        "--runner=PortableRunner",
        "--job_endpoint=h:8099",
        "--environment_type=LOOPBACK",
        kept,
        *common,
    ]


def test_args_alone_choose_the_runner():
    given = ("--runner=FnApiRunner", "--direct_num_workers=2", "--beam_plugins=mine")
    assert options(args=given) == ["--sdk_container_image=none", *given]
    # Without --runner, Beam would take DirectRunner, which downloads a program.
    assert options(args=["--direct_num_workers=2"])[0] == "--runner=FnApiRunner"


@pytest.mark.parametrize("beam", [FLINK, {"args": ["--runner=spark"]}])
def test_a_pipeline_on_kubeflow_refuses_workers_outside_of_its_containers(beam):
    with pytest.raises(ConfigError, match="where the workers of a cluster cannot read them"):
        beam_options.require_local_workers(configs.build({"beam": beam}).beam)
    beam_options.require_local_workers(configs.build({"beam": {"runner": "processes"}}).beam)
