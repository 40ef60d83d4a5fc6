"""Tests Beam options of a single component, set with TFX's `with_beam_pipeline_args`."""

from __future__ import annotations

import pytest

from imgpipe.components.example_gen.sources import Item, Scan
from imgpipe.pipeline import plan
from imgpipe.pipeline.configuration import beam as beam_options
from imgpipe.pipeline.configuration import config as configs


@pytest.mark.timeout(200)
def test_options_of_a_component_are_added_to_those_of_the_pipeline(tmp_path):
    from tfx.dsl.compiler import compiler
    from tfx.orchestration.local import runner_utils

    from imgpipe.pipeline import graph
    from imgpipe.pipeline.runners import local

    found = Scan("p", (Item("a/1.jpg", "a", sha256="0" * 64),), ("a", "b"), fingerprint="f")
    beam = {"runner": "flink", "job_endpoint": "h:8099"}
    config = configs.build({"run": {"out": str(tmp_path)}, "beam": beam})
    known = plan.make(config, found)
    storage = graph.Storage("root", metadata=local.metadata_config(tmp_path / "metadata.db"))
    pipeline = graph.create_pipeline(config, known, storage)
    [bank] = [node for node in pipeline.components if node.id == "FeatureBank"]
    bank.with_beam_pipeline_args(["--parallelism=7"])

    deployment = runner_utils.extract_local_deployment_config(compiler.Compiler().compile(pipeline))

    def options(node: str) -> list[str]:
        spec = runner_utils.extract_executor_spec(deployment, node)
        return [one.value.string_value for one in spec.beam_pipeline_args_placeholders]

    common = beam_options.arguments(config.beam)
    assert options("FeatureBank") == [*common, "--parallelism=7"]
    for node in ("ImageExampleGen", "ImageFilter", "Predictor", "ImageEvaluator"):
        assert options(node) == common
    assert bank.exec_properties["store"] == f"{tmp_path}/bank"
