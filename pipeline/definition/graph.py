"""Builds the TFX pipeline from the plan of a run.

Every runner runs this graph. It has no Resolver and no custom driver, because open-source Kubeflow
Pipelines runs neither; the component Plan determines what they would. Its results reach the other
components as their settings, see `imgpipe.pipeline.definition.plan`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tfx.components.example_validator.component import ExampleValidator
from tfx.dsl.components.base.base_node import BaseNode
from tfx.orchestration import pipeline as tfx_pipeline

import imgpipe.components as parts
from imgpipe.components.run_record.collect import REPORTED
from imgpipe.pipeline.configuration import sections
from imgpipe.pipeline.configuration.config import Config
from imgpipe.pipeline.definition import plan as plans
from imgpipe.pipeline.definition.plan import Plan

if TYPE_CHECKING:
    from ml_metadata.proto.metadata_store_pb2 import ConnectionConfig


@dataclass(frozen=True)
class Storage:
    """Where a runner stores artifacts and metadata.

    Attributes:
        root: Root of the artifacts, a folder or a URI.
        metadata: Connection to ML Metadata, None if the orchestrator has its own.
        run_directory: Folder of this run, for the report; "" if there is none.
    """

    root: str
    metadata: ConnectionConfig | None = None
    run_directory: str = ""


def create_pipeline(
    config: Config, plan: Plan, storage: Storage, given: Mapping[str, object] | None = None
) -> tfx_pipeline.Pipeline:
    """Build the graph.

    Args:
        config: The validated configuration.
        plan: Settings of the components: values, or placeholders of TFX.
        storage: Root of the artifacts and metadata connection of the runner.
        given: Runtime parameters of TFX for `plan.RUN_SETTINGS`, if the graph is compiled for an
            orchestrator. None if the plan is known.

    Returns:
        The pipeline, with caching enabled.
    """
    data = _data_nodes(plan)
    nodes = {**data, **_model_nodes(plan, data)}
    first = parts.Plan(
        plan_fn=plans.PLAN_FN,
        config=plans.to_json(config),
        parameters=plan.to_json() if given is None else "",
        **(plans.settings(config) if given is None else given),
    )
    # Plan's results are parameters, from which TFX derives no order. All other components depend on
    # this one.
    nodes["ImageExampleGen"].add_upstream_node(first)
    report = parts.Report(
        settings=plan.report,
        run_directory=storage.run_directory,
        **{name: nodes[row.component].outputs[row.output] for name, row in REPORTED.items()},
    )
    return tfx_pipeline.Pipeline(
        pipeline_name=config.run.name,
        pipeline_root=storage.root,
        components=[first, *nodes.values(), report],
        enable_cache=True,
        metadata_connection_config=storage.metadata,
        beam_pipeline_args=sections.arguments(config.beam),
    )


def from_component(pipeline: tfx_pipeline.Pipeline, name: str | None) -> set[str]:
    """Return the names of a component and of all that depend on it; none for None."""
    if name is None:
        return set()
    nodes = {node.id: node for node in pipeline.components}
    names = {name}
    waiting = [nodes[name]]
    while waiting:
        for node in waiting.pop().downstream_nodes:
            if node.id not in names:
                names.add(node.id)
                waiting.append(node)
    return names


def _data_nodes(plan: Plan) -> dict[str, BaseNode]:
    """Return the components from the images to the blessed data, by name."""
    code = plan.code
    read = parts.ImageExampleGen(settings=plan.examples, code=code)
    image_filter = parts.ImageFilter(
        ingested=read.outputs["examples"], settings=plan.image_filter, code=code
    )
    # The table, because TFDV can describe nothing about encoded images, and warns of every one:
    # https://github.com/tensorflow/tfx/issues/1622
    described = parts.StatisticsGen(quarantine=image_filter.outputs["quarantine"], code=code)
    statistics = described.outputs["statistics"]
    schema_gen = parts.SchemaGen(
        statistics=statistics, accepted_schema=plan.accepted_schema, code=code
    )
    schema = schema_gen.outputs["schema"]
    anomalies = ExampleValidator(statistics=statistics, schema=schema)
    gate = parts.DataGate(
        statistics=statistics,
        schema=schema,
        anomalies=anomalies.outputs["anomalies"],
        quarantine=image_filter.outputs["quarantine"],
        settings=plan.gate,
        code=code,
    )
    nodes = (read, image_filter, described, schema_gen, anomalies, gate)
    return {node.id: node for node in nodes}


def _model_nodes(plan: Plan, data: Mapping[str, BaseNode]) -> dict[str, BaseNode]:
    """Return the components from the blessed data to the published version, by name."""
    code = plan.code
    examples = data["ImageFilter"].outputs["examples"]
    quarantine = data["ImageFilter"].outputs["quarantine"]
    schema = data["SchemaGen"].outputs["schema"]
    data_blessing = data["DataGate"].outputs["blessing"]
    bank = parts.FeatureBank(
        examples=examples,
        quarantine=quarantine,
        data_blessing=data_blessing,
        settings=plan.bank,
        code=code,
    )
    trainer = parts.ImageTrainer(
        examples=examples,
        bank=bank.outputs["features"],
        data_blessing=data_blessing,
        schema=schema,
        custom_config=plan.training,
    )
    model = trainer.outputs["model"]
    model_run = trainer.outputs["model_run"]
    validator = parts.ServingValidator(model=model, model_run=model_run, code=code)
    evaluator = parts.ImageEvaluator(
        examples=examples,
        model=model,
        model_run=model_run,
        infra_blessing=validator.outputs["blessing"],
        bank=bank.outputs["features"],
        quarantine=quarantine,
        settings=plan.evaluator,
        code=code,
    )
    pusher = parts.ModelPusher(
        model=model,
        model_blessing=evaluator.outputs["blessing"],
        infra_blessing=validator.outputs["blessing"],
        statistics=data["StatisticsGen"].outputs["statistics"],
        schema=schema,
        images=quarantine,
        predictions=evaluator.outputs["predictions"],
        settings=plan.pusher,
    )
    nodes = (bank, trainer, validator, evaluator, pusher)
    return {node.id: node for node in nodes}
