"""Builds the TFX pipeline from the configuration.

Every runner runs this graph. It has no Resolver and no custom driver, because open-source Kubeflow
Pipelines runs neither; the component Plan determines what they would. Its results reach the other
components as parameters, see `imgpipe.pipeline.plan`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from tfx.components.example_validator.component import ExampleValidator
from tfx.orchestration import pipeline as tfx_pipeline

import imgpipe.components as parts
from imgpipe.components.feature_bank.content import FREE_DISK
from imgpipe.components.report.inputs import REPORTED
from imgpipe.pipeline import plan as plans
from imgpipe.pipeline.configuration import beam_options
from imgpipe.pipeline.configuration.config import Config
from imgpipe.pipeline.inputs import gate_settings, source_options, split_rule
from imgpipe.pipeline.plan import Parameters, PlanParameters

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
    config: Config, parameters: Parameters, storage: Storage
) -> tfx_pipeline.Pipeline:
    """Build the graph.

    Args:
        config: The validated configuration.
        parameters: What Plan determines, and settings that a compiled pipeline takes at its start.
        storage: Root of the artifacts and metadata connection of the runner.

    Returns:
        The pipeline, with caching enabled.
    """
    planned = parameters.planned
    plan = parts.Plan(
        plan_fn=plans.PLAN_FN,
        config=plans.to_json(config),
        known=parameters.known,
        **parameters.given,
    )
    data = _data_nodes(config, parameters)
    # Plan's results are parameters, from which TFX derives no order. All other components depend on
    # these two.
    for first in (data["baseline"], data["examples"]):
        first.add_upstream_node(plan)
    model = _model_nodes(config, parameters, data)
    gates = _gate_nodes(config, parameters, data, model)
    report = _report_node(planned, storage, {**data, **model, **gates})
    return tfx_pipeline.Pipeline(
        pipeline_name=config.run.name,
        pipeline_root=storage.root,
        components=[plan, *data.values(), *model.values(), *gates.values(), report],
        enable_cache=True,
        metadata_connection_config=storage.metadata,
        beam_pipeline_args=beam_options.arguments(config.beam),
    )


def _data_nodes(config: Config, parameters: Parameters) -> dict[str, Any]:
    """Components from the images and the last blessed version to the blessed data."""
    planned = parameters.planned
    baseline = parts.Baseline(
        push_directory=str(config.push_directory),
        version=planned.baseline_version,
        digest=planned.baseline_digest,
        vocabulary=planned.vocabulary,
        split_key=planned.split_key,
    )
    examples = _example_gen_node(config, parameters)
    judged = _filter_node(config, planned, examples)
    # The metadata, because TFDV can describe nothing about encoded images, and warns of every one:
    # https://github.com/tensorflow/tfx/issues/1622
    statistics = parts.StatisticsGen(examples=judged.outputs["metadata"], code=planned.code)
    schema = parts.SchemaGen(
        statistics=statistics.outputs["statistics"],
        accepted_schema=planned.accepted_schema,
        code=planned.code,
    )
    anomalies = ExampleValidator(
        statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"]
    )
    nodes = {
        "baseline": baseline,
        "examples": examples,
        "judged": judged,
        "statistics": statistics,
        "schema": schema,
        "anomalies": anomalies,
    }
    return {**nodes, "gate": _data_gate_node(config, planned, nodes)}


def _example_gen_node(config: Config, parameters: Parameters) -> Any:
    """ImageExampleGen, which reads the source."""
    planned, rule = parameters.planned, split_rule(config)
    return parts.ImageExampleGen(
        source=parameters.given["source"],
        fingerprint=planned.fingerprint,
        vocabulary=planned.vocabulary,
        split_seed=rule.seed,
        validation_share=rule.validation,
        test_share=rule.test,
        min_validation=rule.min_validation,
        min_test=rule.min_test,
        pixel_limit=config.judge.pixel_limit,
        options=source_options(config).to_json(),
        store=beam_options.store(config.beam, config.judge_store, parameters.compiled),
        code=planned.code,
    )


def _filter_node(config: Config, planned: PlanParameters, examples: Any) -> Any:
    """ImageFilter, which rejects and repairs images."""
    return parts.ImageFilter(
        ingested=examples.outputs["examples"],
        vocabulary=planned.vocabulary,
        min_side=config.judge.min_side,
        pixel_limit=config.judge.pixel_limit,
        severity=json.dumps(config.judge.severity.model_dump(exclude_defaults=True)),
        threshold=json.dumps(config.judge.threshold.model_dump(exclude_defaults=True)),
        overrides=planned.overrides,
        code=planned.code,
    )


def _data_gate_node(config: Config, planned: PlanParameters, nodes: dict[str, Any]) -> Any:
    """DataGate, which decides whether a model is trained on the data."""
    # The vocabulary is passed on its own, because it may be a placeholder; see `plan`.
    demanded = gate_settings(config, ())
    return parts.DataGate(
        statistics=nodes["statistics"].outputs["statistics"],
        schema=nodes["schema"].outputs["schema"],
        anomalies=nodes["anomalies"].outputs["anomalies"],
        quarantine=nodes["judged"].outputs["quarantine"],
        vocabulary=planned.vocabulary,
        min_images_per_class=json.dumps(demanded.minimum),
        allow_missing_classes=int(demanded.allow_missing_classes),
        max_rejected_share=demanded.max_rejected_share,
        drift=config.gate.drift,
        skew=config.gate.skew,
        accept_changes=planned.accept_changes,
        baseline_statistics=nodes["baseline"].outputs["statistics"],
        accept_schema_to=str(config.schema_file),
        data_key=planned.data_key,
        decision_to=str(config.decision_file),
        code=planned.code,
    )


def _model_nodes(config: Config, parameters: Parameters, data: dict[str, Any]) -> dict[str, Any]:
    """Components from the blessed data to the exported model."""
    planned = parameters.planned
    bank = parts.FeatureBank(
        examples=data["judged"].outputs["examples"],
        metadata=data["judged"].outputs["metadata"],
        data_blessing=data["gate"].outputs["blessing"],
        network=planned.network,
        weights_key=planned.weights_key,
        store=beam_options.store(config.beam, config.bank_store, parameters.compiled),
        # Free space changes from run to run, so FeatureBank itself asks for it.
        budget=FREE_DISK if config.bank.budget is None else config.bank.budget * 2**30,
        code=planned.code,
        vocabulary=planned.vocabulary,
        # Only the choice of views depends on the head. Without that choice, another setting of the
        # head must not miss the cache.
        head=json.dumps(asdict(config.settings), sort_keys=True) if config.chooses_views else "",
    )
    trainer = parts.ImageTrainer(
        examples=data["judged"].outputs["examples"],
        bank=bank.outputs["features"],
        data_blessing=data["gate"].outputs["blessing"],
        schema=data["schema"].outputs["schema"],
        custom_config=planned.custom_config,
    )
    return {"bank": bank, "trainer": trainer}


def _gate_nodes(
    config: Config, parameters: Parameters, data: dict[str, Any], model: dict[str, Any]
) -> dict[str, Any]:
    """Components from the exported model to the published version."""
    planned = parameters.planned
    exported = model["trainer"].outputs["model"]
    baseline = data["baseline"].outputs["model"]
    validator = parts.ServingValidator(
        model=exported,
        model_run=model["trainer"].outputs["model_run"],
        code=planned.code,
    )
    predictor = parts.Predictor(
        examples=data["judged"].outputs["examples"],
        model=exported,
        baseline_model=baseline,
        infra_blessing=validator.outputs["blessing"],
        code=planned.code,
    )
    folds = _folds_node(config, parameters, model)
    evaluator = parts.ImageEvaluator(
        predictions=predictor.outputs["predictions"],
        model=exported,
        baseline_model=baseline,
        settings=planned.evaluate,
        vocabulary=planned.vocabulary,
        infra_blessing=validator.outputs["blessing"],
        code=planned.code,
        **{name: node.outputs["result"] for name, node in folds.items()},
    )
    pusher = parts.ModelPusher(
        model=exported,
        model_blessing=evaluator.outputs["blessing"],
        infra_blessing=validator.outputs["blessing"],
        statistics=data["statistics"].outputs["statistics"],
        schema=data["schema"].outputs["schema"],
        push_directory=str(config.push_directory),
        keep=config.push.keep,
        facts=planned.facts,
    )
    return {
        **folds,
        "validator": validator,
        "predictor": predictor,
        "evaluator": evaluator,
        "pusher": pusher,
    }


def _folds_node(config: Config, parameters: Parameters, model: dict[str, Any]) -> dict[str, Any]:
    """CrossValidator, unless the settings leave the threshold to validation."""
    if not config.folds:
        return {}
    node = parts.CrossValidator(
        bank=model["bank"].outputs["features"],
        model_run=model["trainer"].outputs["model_run"],
        folds=config.folds,
        classes=parameters.planned.classes,
        settings=parameters.planned.model_settings,
        code=parameters.planned.code,
    )
    return {"folds": node}


def _report_node(planned: PlanParameters, storage: Storage, nodes: dict[str, Any]) -> Any:
    """Return the Report component, which reads the artifacts of all others."""
    by_id = {node.id: node for node in nodes.values()}
    # Components that the settings leave out, such as CrossValidator, have no row here.
    reported = {
        name: by_id[row.component].outputs[row.output]
        for name, row in REPORTED.items()
        if row.component in by_id
    }
    return parts.Report(
        settings=planned.report_settings,
        run_directory=storage.run_directory,
        **reported,
    )
