"""Builds the TFX pipeline from the configuration and the inputs of a run.

Every runner runs this graph. It has no Resolver and no custom driver, because open-source Kubeflow
Pipelines runs neither; `RunInputs` holds what they would determine.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from tfx.components.example_validator.component import ExampleValidator
from tfx.components.statistics_gen.component import StatisticsGen
from tfx.orchestration import pipeline as tfx_pipeline

import imgpipe.components as parts
from imgpipe.components.feature_bank.component import FREE_DISK
from imgpipe.components.image_evaluator.component import eval_config
from imgpipe.components.report.inputs import REPORTED
from imgpipe.models import feature_names as names
from imgpipe.models.extractor import describe, from_description
from imgpipe.pipeline import beam_options
from imgpipe.pipeline.config import Config
from imgpipe.pipeline.inputs import RunInputs, gate_settings, report_settings, source_options

TUNER_FN = "imgpipe.models.tuning.tuner_fn"
#: Components whose cache each runner turns off, because they depend on a folder that others change
#: too: a cached push would report a version that somebody has removed since.
NEVER_CACHED = ("ModelPusher", "Report")
#: Images of the validation split in the warm-up requests and in the parity check.
WARMUP_IMAGES, PARITY_IMAGES, TOP_K = 4, 16, 5


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


def create_pipeline(config: Config, inputs: RunInputs, storage: Storage) -> tfx_pipeline.Pipeline:
    """Build the graph.

    Args:
      config: The validated configuration.
      inputs: Fingerprints, vocabulary, baseline and other inputs of the run.
      storage: Root of the artifacts and metadata connection of the runner.

    Returns:
      The pipeline, with caching enabled.
    """
    baseline = parts.Baseline(
        push_directory=str(config.push_directory),
        version=inputs.baseline_version,
        digest=inputs.baseline_digest,
        vocabulary=json.dumps(inputs.vocabulary),
        split_key=inputs.split_key,
    )
    data = _data_nodes(config, inputs, baseline)
    model = _model_nodes(config, inputs, data)
    gates = _gate_nodes(config, inputs, data, model)
    report = _report_node(config, inputs, storage, {**data, **model, **gates})
    return tfx_pipeline.Pipeline(
        pipeline_name=config.run.name,
        pipeline_root=storage.root,
        components=[*data.values(), *model.values(), *gates.values(), report],
        enable_cache=True,
        metadata_connection_config=storage.metadata,
        beam_pipeline_args=beam_options.arguments(config.beam),
    )


def _data_nodes(config: Config, inputs: RunInputs, baseline: Any) -> dict[str, Any]:
    """Components from the images to the blessed data."""
    vocabulary = json.dumps(inputs.vocabulary)
    examples = parts.ImageExampleGen(
        source=config.data.source,
        fingerprint=inputs.fingerprint,
        vocabulary=vocabulary,
        split_seed=config.split.seed,
        validation_share=config.split.validation,
        test_share=config.split.test,
        pixel_limit=config.judge.pixel_limit,
        options=source_options(config).to_json(),
        store=beam_options.store(config.beam, config.judge_store),
        code=inputs.data_code,
    )
    judged = parts.ImageFilter(
        ingested=examples.outputs["examples"],
        vocabulary=vocabulary,
        min_side=config.judge.min_side,
        pixel_limit=config.judge.pixel_limit,
        severity=json.dumps(config.judge.severity.model_dump(exclude_defaults=True)),
        threshold=json.dumps(config.judge.threshold.model_dump(exclude_defaults=True)),
        overrides=inputs.overrides,
        code=inputs.data_code,
    )
    statistics = StatisticsGen(examples=judged.outputs["metadata"])
    schema = parts.SchemaGen(
        statistics=statistics.outputs["statistics"],
        accepted_schema=inputs.accepted_schema,
        code=inputs.data_code,
    )
    anomalies = ExampleValidator(
        statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"]
    )
    demanded = gate_settings(config, inputs.vocabulary)
    gate = parts.DataGate(
        statistics=statistics.outputs["statistics"],
        schema=schema.outputs["schema"],
        anomalies=anomalies.outputs["anomalies"],
        quarantine=judged.outputs["quarantine"],
        vocabulary=vocabulary,
        min_images_per_class=json.dumps(demanded.minimum),
        allow_missing_classes=int(demanded.allow_missing_classes),
        max_rejected_share=demanded.max_rejected_share,
        drift=config.gate.drift,
        skew=config.gate.skew,
        accept_changes=int(inputs.accept_changes),
        fingerprint=inputs.fingerprint,
        baseline_statistics=baseline.outputs["statistics"],
        accept_schema_to=inputs.accept_schema_to,
        decision_to=str(config.decision_file),
        code=inputs.data_code,
    )
    return {
        "baseline": baseline,
        "examples": examples,
        "judged": judged,
        "statistics": statistics,
        "schema": schema,
        "anomalies": anomalies,
        "gate": gate,
    }


def _model_nodes(config: Config, inputs: RunInputs, data: dict[str, Any]) -> dict[str, Any]:
    """Components from the blessed data to the exported model."""
    settings = config.settings
    network = describe(settings, config.bank.precision)
    extractor = from_description(network)
    bank = parts.FeatureBank(
        examples=data["judged"].outputs["examples"],
        metadata=data["judged"].outputs["metadata"],
        data_blessing=data["gate"].outputs["blessing"],
        network=network,
        weights_key=f"{extractor.key(0)[:16]}-{extractor.key(1)[:16]}",
        store=beam_options.store(config.beam, config.bank_store),
        # Free space changes from run to run, so FeatureBank itself asks for it.
        budget=FREE_DISK if config.bank.budget is None else config.bank.budget * 2**30,
        code=inputs.bank_code,
    )
    custom_config: dict[str, Any] = {
        "model": asdict(settings),
        "vocabulary": list(inputs.vocabulary),
        "source_hash": inputs.model_code,
    }
    given = {
        "examples": data["judged"].outputs["examples"],
        "bank": bank.outputs["features"],
        "data_blessing": data["gate"].outputs["blessing"],
    }
    nodes: dict[str, Any] = {"bank": bank}
    if config.tune.trials:
        nodes["tuner"] = parts.ImageTuner(
            tuner_fn=TUNER_FN,
            custom_config={**custom_config, "trials": config.tune.trials},
            **given,
        )
    nodes["trainer"] = parts.ImageTrainer(
        schema=data["schema"].outputs["schema"],
        hyperparameters=nodes["tuner"].outputs["best_hyperparameters"]
        if config.tune.trials
        else None,
        custom_config={
            **custom_config,
            "top_k": TOP_K,
            "warmup_images": WARMUP_IMAGES,
            "parity_images": PARITY_IMAGES,
            "resume_dir": str(config.out / "resume"),
        },
        **given,
    )
    return nodes


def _gate_nodes(
    config: Config, inputs: RunInputs, data: dict[str, Any], model: dict[str, Any]
) -> dict[str, Any]:
    """Components from the exported model to the pushed version."""
    examples = data["judged"].outputs["examples"]
    exported = model["trainer"].outputs["model"]
    evaluator = parts.ImageEvaluator(
        examples=examples,
        model=exported,
        baseline_model=data["baseline"].outputs["model"],
        config=eval_config(
            _validation_threshold(config), config.evaluate.max_drop, len(inputs.vocabulary)
        ),
        splits=[names.VALIDATION, names.TEST],
    )
    predictor = parts.Predictor(examples=examples, model=exported)
    validator = parts.ServingValidator(
        model=exported,
        model_run=model["trainer"].outputs["model_run"],
        code=inputs.serving_code,
    )
    optional = _optional_nodes(config, inputs, data, model, predictor)
    pusher = parts.ModelPusher(
        model=exported,
        model_blessing=evaluator.outputs["blessing"],
        infra_blessing=validator.outputs["blessing"],
        statistics=data["statistics"].outputs["statistics"],
        schema=data["schema"].outputs["schema"],
        push_directory=str(config.push_directory),
        keep=config.push.keep,
        facts=json.dumps(
            {
                "run_key": inputs.run_key,
                "split_key": inputs.split_key,
                "name": config.run.name,
                "vocabulary": list(inputs.vocabulary),
                "fingerprint": inputs.fingerprint,
                "backbone": config.model.network,
                "image_size": config.settings.size,
                "baseline_version": inputs.baseline_version,
            },
            sort_keys=True,
        ),
        **_optional_outputs(optional),
    )
    return {
        "evaluator": evaluator,
        "predictor": predictor,
        "validator": validator,
        **optional,
        "pusher": pusher,
    }


def _validation_threshold(config: Config) -> float:
    """Lowest accuracy on the validation split; 0 if folds decide instead."""
    return 0.0 if config.evaluate.cross_validate else config.evaluate.threshold


def _optional_nodes(
    config: Config,
    inputs: RunInputs,
    data: dict[str, Any],
    model: dict[str, Any],
    predictor: Any,
) -> dict[str, Any]:
    """Components that only some runs have: CrossValidator and LiteExporter."""
    examples = data["judged"].outputs["examples"]
    nodes: dict[str, Any] = {}
    if config.evaluate.cross_validate:
        nodes["cross_validator"] = parts.CrossValidator(
            bank=model["bank"].outputs["features"],
            examples=examples,
            quarantine=data["judged"].outputs["quarantine"],
            folds=config.evaluate.cross_validate,
            threshold=config.evaluate.threshold,
            classes=len(inputs.vocabulary),
            settings=json.dumps(asdict(config.settings), sort_keys=True),
            code=inputs.gate_code,
        )
    if config.export.lite:
        nodes["lite_exporter"] = parts.LiteExporter(
            examples=examples,
            model=model["trainer"].outputs["model"],
            predictions=predictor.outputs["predictions"],
            kinds=json.dumps(sorted(config.export.lite)),
            threshold=_validation_threshold(config),
            max_loss=config.export.max_loss,
            code=inputs.gate_code,
        )
    return nodes


def _optional_outputs(nodes: dict[str, Any]) -> dict[str, Any]:
    """Inputs of the pusher from components that only some runs have."""
    found = {}
    if "cross_validator" in nodes:
        found["cross_validation"] = nodes["cross_validator"].outputs["blessing"]
    if "lite_exporter" in nodes:
        found["lite"] = nodes["lite_exporter"].outputs["lite"]
    return found


def _report_node(config: Config, inputs: RunInputs, storage: Storage, nodes: dict[str, Any]) -> Any:
    """The Report component, which reads the artifacts of all others."""
    by_id = {node.id: node for node in nodes.values()}
    reported = {
        name: by_id[row.component].outputs[row.output]
        for name, row in REPORTED.items()
        if row.component in by_id
    }
    return parts.Report(
        settings=json.dumps(report_settings(config, inputs.vocabulary), sort_keys=True),
        run_directory=storage.run_directory,
        **reported,
    )
