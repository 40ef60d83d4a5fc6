"""The plan of a run: the settings of its components, and the keys of everything that is kept.

On one machine the plan is known before the graph is built, and the graph holds its values as
constants. A compiled pipeline runs many times, so its graph holds a placeholder for each value,
which the compiler for Kubeflow connects to the output of the component Plan.

What a change invalidates is decided here alone:

| key | what it is made of | what it covers |
|---|---|---|
| a field of `Plan` | the settings of one component | its outputs in TFX's cache |
| `Plan.code` | source code, computing libraries | the outputs of all components |
| `Scan.fingerprint` | all images, with paths and labels | what is read of the images |
| `data_key` | images, overrides, split, judge | what a person or a run accepted |
| `weights_key` | backbone, weights, views, precision | the features of all images |
| `run_key` | these keys, and all settings that decide | which version is the baseline |
| `outcome_key` | the plan and the accepted schema | whether a run repeats the last one |

A component also runs again where an artifact that it reads has changed. Which setting is in which
field of `Plan` is listed in `tests/pipeline/test_plan.py`. Two stores are addressed by content, so
that they need no key of a run: the inspection cache (`example_gen.inspection`) and the store of the
feature bank (`models.features.extractor.FeatureExtractor.key`). What FeatureBank decides once for
an output folder has a key beside it (`components.feature_bank.storage`).

TFX's resolvers, drivers and dynamic execution properties do not serve for this; docs/design.md says
why.

Nothing here imports TensorFlow or TFX, since the command line calls it while they are still
loading.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from imgpipe.components.common.storage import manifest
from imgpipe.components.data_gate import accepted
from imgpipe.components.data_gate.settings import GatePlan
from imgpipe.components.example_gen.settings import ReadPlan, SourceOptions
from imgpipe.components.example_gen.sources import Scan
from imgpipe.components.feature_bank.settings import BankPlan
from imgpipe.components.image_evaluator.settings import EvaluatorPlan
from imgpipe.components.image_filter.judge import overrides
from imgpipe.components.image_filter.judge.overrides import Override
from imgpipe.components.image_filter.judge.settings import FilterPlan
from imgpipe.components.model_pusher.settings import PusherPlan
from imgpipe.components.run_record.run_folder import CONFIG
from imgpipe.models.features.extractor import settings_of_features, weights_key
from imgpipe.models.files import source_code
from imgpipe.models.finding import Finding, make_finding
from imgpipe.pipeline.configuration import config as configs
from imgpipe.pipeline.configuration.config import Config, changed, flat, put
from imgpipe.pipeline.configuration.given_settings import to_toml
from imgpipe.pipeline.definition import source

#: Components whose cache each runner turns off, because they depend on folders that others change
#: too: Plan would miss new images, and a cached push would report a version that somebody has
#: removed since.
NEVER_CACHED = ("Plan", "ModelPusher", "Report")
#: `plan` as the component Plan finds it.
PLAN_FN = f"{__name__}:plan"
#: Settings that a run of a compiled pipeline may change, by the name of the parameter.
RUN_SETTINGS = {
    "source": "data.source",
    "threshold": "evaluate.threshold",
    "epochs": "course.epochs",
    "image_size": "model.image_size",
}
#: Reason of the finding that the threshold is that of a version.
KEPT_THRESHOLD = "kept_threshold"
#: Settings that say where files lie, or what is written besides, and do not change any result.
#: Images count by the fingerprint of the source, and overrides by their content.
_PATHS = {
    "data": {"source", "follow_links", "root", "tfds_dir"},
    "judge": {"overrides", "store"},
    "evaluate": {"tfma"},
}
#: Settings that decide the result of a run, without `_PATHS`: these sections, and one of `[bank]`.
_SECTIONS = ("data", "split", "judge", "gate", "model", "train", "evaluate", "course")
_DECIDING: Mapping[str, bool | set[str]] = {**dict.fromkeys(_SECTIONS, True), "bank": {"budget"}}


@dataclass(frozen=True)
class Plan:
    """Settings of the components, each one JSON text that its component reads whole.

    Attributes:
        fingerprint: Fingerprint of all files of the source, by path and content.
        code: Fingerprint of the package's source code and of the libraries that compute.
        examples: `ReadPlan` of ImageExampleGen.
        image_filter: `FilterPlan`, with people's decisions about single images.
        accepted_schema: Schema by which the data is judged, "" to infer a schema.
        gate: `GatePlan`, with what was accepted earlier, and the version to compare with.
        bank: `BankPlan`.
        training: Arguments of the training function.
        evaluator: `EvaluatorPlan`, by which a model is blessed, with the same version.
        pusher: `PusherPlan`, with what the manifest of a version says about its run.
        report: Settings that the report shows.
    """

    fingerprint: str
    code: str
    examples: str
    image_filter: str
    accepted_schema: str
    gate: str
    bank: str
    training: str
    evaluator: str
    pusher: str
    report: str

    def to_json(self) -> str:
        """Return the plan as JSON, for the component Plan."""
        return _json(asdict(self))


def make(config: Config, scan: Scan, accept: bool = False) -> Plan:
    """Determine the plan of a run from its data, versions and schema.

    Args:
        config: The configuration.
        scan: Files of the source with their hashes.
        accept: Whether a person accepts changes of the data, as with `--accept`.

    Returns:
        The settings of the components.

    Raises:
        ConfigError: The decisions about single images are refused; see `overrides.decisions`.
    """
    vocabulary = tuple(scan.vocabulary)
    code = source_code.fingerprint()
    places = config.places
    filtering = filter_plan(config, vocabulary)
    data_key = _data_key(config, scan, filtering.overrides)
    bank = _bank_plan(config, vocabulary)
    run_key = _fingerprint(
        config.model_dump(include=_DECIDING, exclude=_PATHS),
        vocabulary,
        data_key,
        code,
        bank.weights_key,
    )
    baseline = manifest.baseline_for(places.versions, run_key, vocabulary)
    gate = config.gate.model_dump_json()
    judged_by = accepted.parameters(places.schema, data_key, gate, baseline)
    judged_by["accept_changes"] |= int(accept)
    return Plan(
        fingerprint=scan.fingerprint,
        code=code,
        examples=_read_plan(config, scan).to_json(),
        image_filter=filtering.to_json(),
        accepted_schema=judged_by["accepted_schema"],
        gate=_gate_plan(config, vocabulary, data_key, judged_by).to_json(),
        bank=bank.to_json(),
        training=_training(config, vocabulary, code),
        evaluator=_evaluator_plan(config, vocabulary, judged_by, baseline).to_json(),
        pusher=_pusher_plan(config, scan, run_key, baseline.number if baseline else 0).to_json(),
        report=_json(report_settings(config, vocabulary, scan.fingerprint)),
    )


def with_kept_threshold(config: Config) -> tuple[Config, list[Finding]]:
    """Return the configuration with the threshold of the newest version, unless one is given.

    A person who has published a model "as it is" has accepted its accuracy for this folder. The
    findings say so, if the threshold is another one than the default.
    """
    newest = next(manifest.readable(config.places.versions), None)
    kept = newest.manifest.get("threshold") if newest is not None else None
    default = config.evaluate.threshold
    if config.has_threshold or newest is None or kept in (None, default):
        return config, []
    changed = configs.build(config.model_dump(), {"evaluate.threshold": kept})
    sentence = (
        f"the accuracy that is asked for, {changed.evaluate.threshold:g}, is that of version "
        f"{newest.number} in this output folder; --set evaluate.threshold={default:g} asks for "
        "the usual one"
    )
    return changed, [make_finding(KEPT_THRESHOLD, sentence)]


def _data_key(config: Config, scan: Scan, decisions: Sequence[Override]) -> str:
    """Return the fingerprint of the data, its division into splits and its checks."""
    return _fingerprint(
        config.model_dump(include={"split", "judge"}, exclude=_PATHS),
        asdict(config.split_rule),
        scan.fingerprint,
        [override.decision for override in decisions],
    )


def _read_plan(config: Config, scan: Scan) -> ReadPlan:
    return ReadPlan(
        options=SourceOptions.of(config.data, str(config.places.judge)),
        vocabulary=tuple(scan.vocabulary),
        rule=config.split_rule,
        pixel_limit=config.judge.pixel_limit,
        fingerprint=scan.fingerprint,
    )


def filter_plan(config: Config, vocabulary: Sequence[str]) -> FilterPlan:
    """Return what ImageFilter gets, with the decisions of people about single images.

    Raises:
        ConfigError: The decisions are refused; see `overrides.decisions`.
    """
    return FilterPlan(
        settings=config.judge.model_copy(update=dict.fromkeys(_PATHS["judge"], "")),
        vocabulary=tuple(vocabulary),
        overrides=overrides.decisions(config.places.overrides, vocabulary),
    )


def _gate_plan(
    config: Config,
    vocabulary: tuple[str, ...],
    data_key: str,
    judged_by: accepted.AcceptedState,
) -> GatePlan:
    return GatePlan(
        settings=config.gate,
        vocabulary=vocabulary,
        judged_by=judged_by,
        accept_schema_to=str(config.places.schema),
        data_key=data_key,
        decision_to=str(config.places.decision),
        versions=str(config.places.versions),
    )


def _evaluator_plan(
    config: Config,
    vocabulary: tuple[str, ...],
    judged_by: accepted.AcceptedState,
    baseline: manifest.Version | None,
) -> EvaluatorPlan:
    versions = config.places.versions
    return EvaluatorPlan(
        settings=config.evaluate,
        vocabulary=vocabulary,
        accept_changes=judged_by["accept_changes"],
        versions=str(versions),
        version=baseline.number if baseline else 0,
        digest=baseline.digest if baseline else "",
        why_none="" if baseline else manifest.why_no_baseline(versions),
        answers=str(config.places.answers),
    )


def _pusher_plan(config: Config, scan: Scan, run_key: str, baseline_version: int) -> PusherPlan:
    facts = {
        "name": config.run.name,
        "vocabulary": scan.vocabulary,
        "fingerprint": scan.fingerprint,
        "backbone": config.model.network,
        "image_size": config.settings.size,
        "run_key": run_key,
        "threshold": config.evaluate.threshold,
        "baseline_version": baseline_version,
    }
    return PusherPlan(settings=config.push, versions=str(config.places.versions), facts=facts)


def _bank_plan(config: Config, vocabulary: tuple[str, ...]) -> BankPlan:
    return BankPlan(
        settings=config.bank.model_copy(update={"store": str(config.places.bank)}),
        network=settings_of_features(config.stored_features),
        weights_key=weights_key(config.stored_features, config.bank.precision),
        kept=str(config.places.features),
        vocabulary=vocabulary,
        # Without a choice of features, another setting of the head must not miss the cache.
        head=config.settings if config.settings.chooses_features else None,
    )


def _training(config: Config, vocabulary: tuple[str, ...], code: str) -> str:
    """Return the arguments of the training function as JSON."""
    arguments = {
        "model": asdict(config.settings),
        "vocabulary": vocabulary,
        "folds": config.folds,
        "source_hash": code,
    }
    return _json(arguments)


def report_settings(
    config: Config, vocabulary: Sequence[str] = (), fingerprint: str = ""
) -> dict[str, object]:
    """Select the settings that the result of a run has, by its names for them.

    Args:
        config: The validated configuration.
        vocabulary: Class names in sorted order; none while they are not known.
        fingerprint: Fingerprint of the source, "" while it is not known.
    """
    return {
        "name": config.run.name,
        "source": config.data.source,
        "classes": list(vocabulary),
        "cross_validate": config.folds,
        "backbone": config.model.network,
        "image_size": config.settings.size,
        "fingerprint": fingerprint,
        "seeds": {"split": config.split.seed, "train": config.train.seed},
        "changed": changed(config),
    }


def settings(config: Config) -> dict[str, object]:
    """Return the settings of a configuration that a run of a compiled pipeline may change."""
    values = dict(flat(config.model_dump()))
    return {name: values[setting] for name, setting in RUN_SETTINGS.items()}


def plan(config: str, given: Mapping[str, object]) -> dict[str, str]:
    """Determine the plan in a task of a compiled pipeline; see the component Plan.

    Args:
        config: JSON of the configuration, as `to_json` writes it.
        given: Values of `RUN_SETTINGS`, which replace those of the configuration.

    Returns:
        The fields of `Plan`, and the configuration of the run as TOML under `CONFIG`.

    Raises:
        ConfigError: A setting is wrong, or the source cannot be read as one.
        ResourceError: The weights are missing.
    """
    tree = json.loads(config)
    for name, setting in RUN_SETTINGS.items():
        put(tree, setting, given[name])
    # Validated again, because people choose the values of `given` when they start a run.
    built = configs.build(tree, where="the parameters of the pipeline")
    return {**asdict(make(built, source.usable(built).hashed())), CONFIG: to_toml(built)}


def to_json(config: Config) -> str:
    """Write a configuration with absolute paths as JSON for `plan`."""
    return config.model_dump_json(exclude_none=True)


def outcome_key(plan: Plan, schema_file: Path) -> str:
    """Return the fingerprint of what decides the outcome of a run besides its settings.

    Args:
        plan: The plan of the run.
        schema_file: The accepted schema, which need not exist.
    """
    schema = schema_file.read_bytes() if schema_file.is_file() else b""
    return _fingerprint(asdict(plan), schema.decode("utf-8", "replace"))


def _json(value: object) -> str:
    # Sorted, because TFX's cache compares the text of a parameter.
    return json.dumps(value, sort_keys=True)


def _fingerprint(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
