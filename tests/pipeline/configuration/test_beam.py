"""Tests of the section [beam]: refused settings, and the options that Beam receives."""

from __future__ import annotations

import json
import re

import pytest

from imgpipe.models.errors import ConfigError
from imgpipe.pipeline.configuration import config as configs
from imgpipe.pipeline.configuration import sections

FLINK = {"runner": "flink", "job_endpoint": "h:8099"}


def options(**beam: object) -> list[str]:
    """Return the options that Beam receives for a section [beam]."""
    return sections.arguments(configs.build({"beam": beam}).beam)


@pytest.mark.parametrize(
    ("beam", "message"),
    [
        ({"runner": "flnk"}, "beam.runner: input should be 'local', 'processes', 'flink'"),
        ({"runner": "flink"}, "need each other. Received: 'flink' and ''"),
        ({"job_endpoint": "h:1"}, "need each other. Received: 'local' and 'h:1'"),
        ({**FLINK, "job_endpoint": "http://h:1"}, "beam.job_endpoint: expected: HOST:PORT of the"),
        ({**FLINK, "args": ["--runner=FlinkRunner"]}, "both name the engine; remove one of them"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(beam, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        configs.build({"beam": beam})


def test_each_runner_gets_its_options():
    worker = json.dumps({"command": str(sections.worker_start.script())})
    common = [
        "--sdk_container_image=none",
        "--beam_plugins=imgpipe.components.common.beam.beam_worker",
    ]
    # Without the last option, a runner ends its workers after each stage.
    portable = [
        *("--runner=PortableRunner", "--job_endpoint=h:8099", "--environment_cache_millis=60000")
    ]
    process = ["--environment_type=PROCESS", f"--environment_config={worker}"]
    local = ["--runner=FnApiRunner", "--no_pipeline_type_check"]
    workers = ["--direct_running_mode=multi_processing", "--direct_num_workers=0"]
    images = ["--environment_type=DOCKER", "--environment_config=workers:1"]
    assert options() == [*local, *common]
    assert options(runner="processes") == [*local, *workers, *common]
    given = ["--flink_version=1.20"]
    assert options(**FLINK, args=given) == [*portable, *process, *common, *given]
    assert options(**FLINK, args=images) == [*portable, *common, *images]


def test_args_alone_choose_the_runner():
    given = ("--runner=FnApiRunner", "--direct_num_workers=2", "--beam_plugins=mine")
    assert options(args=given) == ["--sdk_container_image=none", *given]
    # Without --runner, Beam would take DirectRunner, which downloads a program.
    assert options(args=["--direct_num_workers=2"])[0] == "--runner=FnApiRunner"
