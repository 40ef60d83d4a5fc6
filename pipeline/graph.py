"""Builds the TFX pipeline from the configuration.

Every runner runs this graph. It has no Resolver and no custom driver, because open-source Kubeflow
Pipelines runs neither; the component Plan determines what they would. Its results reach the other
components as parameters, see `imgpipe.pipeline.plan`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tfx.components.example_validator.component import ExampleValidator
from tfx.orchestration import pipeline as tfx_pipeline

import imgpipe.components as parts
from imgpipe.components.example_gen.image_example_gen import IngestSettings
from imgpipe.components.feature_bank.content import FREE_DISK
from imgpipe.components.report.facts import REPORTED
from imgpipe.models.feature_kinds import AUTO
from imgpipe.pipeline import plan as plans
from imgpipe.pipeline.configuration import beam as beam_options
from imgpipe.pipeline.configuration.config import Config
from imgpipe.pipeline.plan import Plan, split_rule
from imgpipe.pipeline.source import source_options

#: Components whose cache each runner turns off, because they depend on folders that others change
#: too: Plan would miss new images, and a cached push would report a version that somebody has
#: removed since.
NEVER_CACHED = ("Plan", "ModelPusher", "Report")


@dataclass(frozen=True)
class Storage:
    """Where a runner stores artifacts and metadata.

    Attributes:
        root: Root of the artifacts, a folder or a URI.
        metadata: Connection to ML Metadata, None if the orchestrator has its own.
        run_directory: Folder of this run, for the report; "" if there is none.
    """

    root: str
    metadata: Any = None
    run_directory: str = ""


def create_pipeline(
    config: Config, plan: Plan, storage: Storage, given: Mapping[str, Any] | None = None
) -> tfx_pipeline.Pipeline:
    """Build the graph.

    Args:
        config: The validated configuration.
        plan: Parameters of the components: values, or placeholders of TFX.
        storage: Root of the artifacts and metadata connection of the runner.
        given: Runtime parameters of TFX for `plan.RUN_SETTINGS`, if the graph is compiled for an
            orchestrator. None if the plan is known.

    Returns:
        The pipeline, with caching enabled.
    """
    settings = plans.settings(config) if given is None else given
    first = parts.Plan(
        plan_fn=plans.PLAN_FN,
        config=plans.to_json(config),
        known=plan.to_json() if given is None else "",
        **settings,
    )
    data = _data_nodes(config, plan, settings["source"])
    # Plan's results are parameters, from which TFX derives no order. All other components depend on
    # these two.
    for node in (data["baseline"], data["examples"]):
        node.add_upstream_node(first)
    model = _model_nodes(config, plan, data)
    gates = _gate_nodes(config, plan, data, model)
    nodes = [*data.values(), *model.values(), *gates.values()]
    by_id = {node.id: node for node in nodes}
    report = parts.Report(
        settings=plan.report_settings,
        run_directory=storage.run_directory,
        **{name: by_id[row.component].outputs[row.output] for name, row in REPORTED.items()},
    )
    return tfx_pipeline.Pipeline(
        pipeline_name=config.run.name,
        pipeline_root=storage.root,
        components=[first, *nodes, report],
        enable_cache=True,
        metadata_connection_config=storage.metadata,
        beam_pipeline_args=beam_options.arguments(config.beam),
    )


def _data_nodes(config: Config, plan: Plan, source: Any) -> dict[str, Any]:
    """Components from the images and the last blessed version to the blessed data."""
    baseline = parts.Baseline(
        push_directory=str(config.push_directory),
        version=plan.baseline_version,
        digest=plan.baseline_digest,
        vocabulary=plan.vocabulary,
    )
    examples = parts.ImageExampleGen(
        source=source,
        fingerprint=plan.fingerprint,
        vocabulary=plan.vocabulary,
        settings=_ingest_settings(config).to_json(),
        code=plan.code,
    )
    judged = parts.ImageFilter(
        ingested=examples.outputs["examples"],
        vocabulary=plan.vocabulary,
        settings=plans.check_settings(config).to_json(),
        overrides=plan.overrides,
        code=plan.code,
    )
    # The metadata, because TFDV can describe nothing about encoded images, and warns of every one:
    # https://github.com/tensorflow/tfx/issues/1622
    described = parts.StatisticsGen(examples=judged.outputs["metadata"], code=plan.code)
    statistics = described.outputs["statistics"]
    schema = parts.SchemaGen(
        statistics=statistics, accepted_schema=plan.accepted_schema, code=plan.code
    )
    anomalies = ExampleValidator(statistics=statistics, schema=schema.outputs["schema"])
    gate = parts.DataGate(
        statistics=statistics,
        schema=schema.outputs["schema"],
        anomalies=anomalies.outputs["anomalies"],
        quarantine=judged.outputs["quarantine"],
        vocabulary=plan.vocabulary,
        section=config.gate.model_dump_json(),
        accept_changes=plan.accept_changes,
        baseline_statistics=baseline.outputs["statistics"],
        accepted_schema=plan.accepted_schema,
        accepted_data=plan.accepted_data,
        accept_schema_to=str(config.schema_file),
        data_key=plan.data_key,
        decision_to=str(config.decision_file),
        code=plan.code,
    )
    return {
        "baseline": baseline,
        "examples": examples,
        "judged": judged,
        "statistics": described,
        "schema": schema,
        "anomalies": anomalies,
        "gate": gate,
    }


def _ingest_settings(config: Config) -> IngestSettings:
    """Return the settings of ImageExampleGen that the configuration decides."""
    return IngestSettings(
        source="",
        vocabulary=(),
        rule=split_rule(config),
        pixel_limit=config.judge.pixel_limit,
        options=source_options(config),
        store=str(config.judge_store),
    )


def _model_nodes(config: Config, plan: Plan, data: dict[str, Any]) -> dict[str, Any]:
    """Components from the blessed data to the exported model."""
    given = config.settings  # without the files of a preset, which may lie on another machine
    chooses = given.features == AUTO and given.head_alone and given.backbone_spec().trained
    bank = parts.FeatureBank(
        examples=data["judged"].outputs["examples"],
        metadata=data["judged"].outputs["metadata"],
        data_blessing=data["gate"].outputs["blessing"],
        network=plan.network,
        weights_key=plan.weights_key,
        store=str(config.bank_store),
        # Free space changes from run to run, so FeatureBank itself asks for it.
        budget=FREE_DISK if config.bank.budget is None else config.bank.budget * 2**30,
        code=plan.code,
        vocabulary=plan.vocabulary,
        # Without a choice of features, another setting of the head must not miss the cache.
        head=json.dumps(asdict(config.settings), sort_keys=True) if chooses else "",
    )
    trainer = parts.ImageTrainer(
        examples=data["judged"].outputs["examples"],
        bank=bank.outputs["features"],
        data_blessing=data["gate"].outputs["blessing"],
        schema=data["schema"].outputs["schema"],
        custom_config=plan.training,
    )
    return {"bank": bank, "trainer": trainer}


def _gate_nodes(
    config: Config, plan: Plan, data: dict[str, Any], model: dict[str, Any]
) -> dict[str, Any]:
    """Components from the exported model to the published version."""
    exported = model["trainer"].outputs["model"]
    baseline = data["baseline"].outputs["model"]
    validator = parts.ServingValidator(
        model=exported,
        model_run=model["trainer"].outputs["model_run"],
        code=plan.code,
    )
    predictor = parts.Predictor(
        examples=data["judged"].outputs["examples"],
        model=exported,
        baseline_model=baseline,
        infra_blessing=validator.outputs["blessing"],
        code=plan.code,
    )
    evaluator = parts.ImageEvaluator(
        predictions=predictor.outputs["predictions"],
        model=exported,
        baseline_model=baseline,
        settings=plan.evaluate,
        vocabulary=plan.vocabulary,
        model_run=model["trainer"].outputs["model_run"],
        infra_blessing=validator.outputs["blessing"],
        bank=model["bank"].outputs["features"],
        accept_changes=plan.accept_changes,
        code=plan.code,
    )
    pusher = parts.ModelPusher(
        model=exported,
        model_blessing=evaluator.outputs["blessing"],
        infra_blessing=validator.outputs["blessing"],
        statistics=data["statistics"].outputs["statistics"],
        schema=data["schema"].outputs["schema"],
        images=data["judged"].outputs["examples"],  # the metadata has no hashes
        push_directory=str(config.push_directory),
        keep=config.push.keep,
        facts=plan.facts,
    )
    return {
        "validator": validator,
        "predictor": predictor,
        "evaluator": evaluator,
        "pusher": pusher,
    }
