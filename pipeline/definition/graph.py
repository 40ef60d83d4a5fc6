"""Builds the TFX pipeline from the plan of a run.

Every runner runs this graph. It has no Resolver and no custom driver, because open-source Kubeflow
Pipelines runs neither; the component Plan determines what they would. Its results reach the other
components as their settings, see `imgpipe.pipeline.definition.plan`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from tfx.components.example_validator.component import ExampleValidator
from tfx.dsl.components.base.base_node import BaseNode
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.orchestration.data_types import RuntimeParameter

import imgpipe.components as parts
from imgpipe.components.run_record.collect import REPORTED
from imgpipe.models.settings.settings import Settings
from imgpipe.pipeline.configuration import beam
from imgpipe.pipeline.definition import plan as plans

#: What a component reads: a text, or its placeholder in a compiled pipeline.
Text: TypeAlias = str | RuntimeParameter

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
    settings: Settings,
    texts: Mapping[str, Text],
    storage: Storage,
    given: Mapping[str, object] | None = None,
) -> tfx_pipeline.Pipeline:
    """Build the graph.

    Args:
        settings: The validated settings.
        texts: What each component reads, as `plan.Plan.texts`: values, or placeholders of TFX.
        storage: Root of the artifacts and metadata connection of the runner.
        given: Runtime parameters of TFX for `plan.RUN_SETTINGS`, if the graph is compiled for an
            orchestrator. None if the plan is known.

    Returns:
        The pipeline, with caching enabled.
    """
    data = _data_nodes(texts)
    nodes = {**data, **_model_nodes(texts, data)}
    first = parts.Plan(
        plan_fn=plans.PLAN_FN,
        config=plans.to_json(settings),
        parameters=json.dumps(dict(texts), sort_keys=True) if given is None else "",
        **(plans.run_settings(settings) if given is None else given),
    )
    # Plan's results are parameters, from which TFX derives no order. All other components depend on
    # this one.
    nodes["ImageExampleGen"].add_upstream_node(first)
    report = parts.Report(
        settings=texts["Report"],
        run_directory=storage.run_directory,
        **{name: nodes[row.component].outputs[row.output] for name, row in REPORTED.items()},
    )
    return tfx_pipeline.Pipeline(
        pipeline_name=settings.run.name,
        pipeline_root=storage.root,
        components=[first, *nodes.values(), report],
        enable_cache=True,
        metadata_connection_config=storage.metadata,
        beam_pipeline_args=beam.arguments(settings.beam),
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


def _data_nodes(texts: Mapping[str, Text]) -> dict[str, BaseNode]:
    """Return the components from the images to the blessed data, by name."""
    read = parts.ImageExampleGen(settings=texts["ImageExampleGen"])
    image_filter = parts.ImageFilter(
        ingested=read.outputs["examples"], settings=texts["ImageFilter"]
    )
    # The table, because TFDV can describe nothing about encoded images, and warns of every one:
    # https://github.com/tensorflow/tfx/issues/1622
    described = parts.StatisticsGen(
        quarantine=image_filter.outputs["quarantine"], settings=texts["StatisticsGen"]
    )
    statistics = described.outputs["statistics"]
    schema_gen = parts.SchemaGen(statistics=statistics, settings=texts["SchemaGen"])
    schema = schema_gen.outputs["schema"]
    anomalies = ExampleValidator(statistics=statistics, schema=schema)
    gate = parts.DataGate(
        statistics=statistics,
        schema=schema,
        anomalies=anomalies.outputs["anomalies"],
        quarantine=image_filter.outputs["quarantine"],
        settings=texts["DataGate"],
    )
    nodes = (read, image_filter, described, schema_gen, anomalies, gate)
    return {node.id: node for node in nodes}


def _model_nodes(texts: Mapping[str, Text], data: Mapping[str, BaseNode]) -> dict[str, BaseNode]:
    """Return the components from the blessed data to the published version, by name."""
    examples = data["ImageFilter"].outputs["examples"]
    quarantine = data["ImageFilter"].outputs["quarantine"]
    schema = data["SchemaGen"].outputs["schema"]
    data_blessing = data["DataGate"].outputs["blessing"]
    bank = parts.FeatureBank(
        examples=examples,
        quarantine=quarantine,
        data_blessing=data_blessing,
        settings=texts["FeatureBank"],
    )
    trainer = parts.ImageTrainer(
        examples=examples,
        bank=bank.outputs["features"],
        data_blessing=data_blessing,
        schema=schema,
        custom_config=texts["ImageTrainer"],
    )
    model = trainer.outputs["model"]
    model_run = trainer.outputs["model_run"]
    validator = parts.ServingValidator(
        model=model, model_run=model_run, settings=texts["ServingValidator"]
    )
    evaluator = parts.ImageEvaluator(
        examples=examples,
        model=model,
        model_run=model_run,
        infra_blessing=validator.outputs["blessing"],
        bank=bank.outputs["features"],
        quarantine=quarantine,
        settings=texts["ImageEvaluator"],
    )
    pusher = parts.ModelPusher(
        model=model,
        model_blessing=evaluator.outputs["blessing"],
        infra_blessing=validator.outputs["blessing"],
        statistics=data["StatisticsGen"].outputs["statistics"],
        schema=schema,
        images=quarantine,
        predictions=evaluator.outputs["predictions"],
        settings=texts["ModelPusher"],
    )
    nodes = (bank, trainer, validator, evaluator, pusher)
    return {node.id: node for node in nodes}
