"""The plan of a run: what its components get, and the keys of everything that is kept.

On one machine the plan is known before the graph is built, and the graph holds its texts as
constants. A compiled pipeline runs many times, so its graph holds a placeholder for each text,
which the compiler for Kubeflow connects to the output of the component Plan.

What a change invalidates is decided here and in the table `READS` of `models/settings/given.py`:

| key | what it is made of | what it covers |
|---|---|---|
| a text of `Plan` | the settings and facts that a component reads | its outputs in TFX's cache |
| `Facts.code` | source code, computing libraries | the outputs of all components |
| `Images.fingerprint` | all images, with paths and labels | what is read of the images |
| `Facts.data_key` | images, overrides, split, judge | what a person or a run accepted |
| `Facts.weights_key` | backbone, weights, views, precision | the features of all images |
| `Facts.run_key` | these keys, and all settings that decide | which version is the baseline |
| `outcome_key` | the plan and the accepted schema | whether a run repeats the last one |

A component also runs again where an artifact that it reads has changed. Two stores are addressed by
content, so that they need no key of a run: the inspection cache (`example_gen.inspection`) and the
store of the feature bank (`models.features.extractor.FeatureExtractor.key`). What FeatureBank
decides once for an output folder has a key beside it (`components.feature_bank.storage`).

TFX's resolvers, drivers and dynamic execution properties do not serve for this; docs/design.md says
why.

Nothing here imports TensorFlow or TFX, since the command line calls it while they are still
loading.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from imgpipe.components.common.splits import SplitRule
from imgpipe.components.common.storage import manifest
from imgpipe.components.data_gate import accepted
from imgpipe.components.example_gen.sources import Images
from imgpipe.components.image_filter.judge import overrides
from imgpipe.components.run_record.run_folder import CONFIG
from imgpipe.models.features.extractor import weights_key
from imgpipe.models.files import source_code
from imgpipe.models.finding import Finding, make_finding
from imgpipe.models.settings.given import READS, Facts, of_component
from imgpipe.models.settings.section import flat
from imgpipe.models.settings.settings import Settings
from imgpipe.pipeline.configuration import config as configs
from imgpipe.pipeline.configuration.config import put
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
    """What the components of a run get.

    Attributes:
        facts: What is known beside the settings.
        texts: The text of each component of `READS`, which the component reads whole.
    """

    facts: Facts
    texts: Mapping[str, str]


def make(settings: Settings, images: Images, accept: bool = False) -> Plan:
    """Determine the plan of a run from its data, versions and schema.

    Args:
        settings: The settings, with absolute paths.
        images: Images of the source with their hashes.
        accept: Whether a person accepts changes of the data, as with `--accept`.

    Raises:
        ConfigError: The decisions about single images are refused; see `overrides.decisions`.
    """
    vocabulary = images.classes
    places = settings.places
    facts = Facts(
        vocabulary=vocabulary,
        fingerprint=images.fingerprint,
        code=source_code.fingerprint(),
        decisions=overrides.decisions(places.overrides, vocabulary),
        weights_key=weights_key(settings, settings.bank.precision),
    )
    facts = facts.model_copy(update={"data_key": _data_key(settings, facts)})
    run_key = _fingerprint(
        settings.model_dump(mode="json", include=_DECIDING, exclude=_PATHS),
        vocabulary,
        facts.data_key,
        facts.code,
        facts.weights_key,
    )
    baseline = manifest.baseline_for(places.versions, run_key, vocabulary)
    judged_by = accepted.parameters(places.schema, facts.data_key, settings.gate, baseline)
    judged_by["accept_changes"] |= int(accept)
    compared = {
        "run_key": run_key,
        "baseline_version": baseline.number if baseline else 0,
        "baseline_digest": baseline.digest if baseline else "",
        "no_baseline": "" if baseline else manifest.why_no_baseline(places.versions),
    }
    facts = facts.model_copy(update={**judged_by, **compared})
    return Plan(facts, {name: of_component(name, settings, facts) for name in READS})


def with_kept_threshold(settings: Settings) -> tuple[Settings, list[Finding]]:
    """Return the settings with the threshold of the newest version, unless one is given.

    A person who has published a model "as it is" has accepted its accuracy for this folder. The
    findings say so, if the threshold is another one than the default.
    """
    newest = next(manifest.readable(settings.places.versions), None)
    kept = newest.manifest.get("threshold") if newest is not None else None
    default = settings.evaluate.threshold
    if settings.has_threshold or newest is None or kept in (None, default):
        return settings, []
    changed = configs.build(settings.model_dump(exclude_unset=True), {"evaluate.threshold": kept})
    sentence = (
        f"the accuracy that is asked for, {changed.evaluate.threshold:g}, is that of version "
        f"{newest.number} in this output folder; --set evaluate.threshold={default:g} asks for "
        "the usual one"
    )
    return changed, [make_finding(KEPT_THRESHOLD, sentence)]


def _data_key(settings: Settings, facts: Facts) -> str:
    """Return the fingerprint of the data, its division into splits and its checks."""
    return _fingerprint(
        settings.model_dump(mode="json", include={"split", "judge"}, exclude=_PATHS),
        SplitRule.of(settings).model_dump(),
        facts.fingerprint,
        [override.decision for override in facts.decisions],
    )


def run_settings(settings: Settings) -> dict[str, object]:
    """Return the settings that a run of a compiled pipeline may change."""
    values = dict(flat(settings.model_dump()))
    return {name: values[setting] for name, setting in RUN_SETTINGS.items()}


def plan(config: str, given: Mapping[str, object]) -> dict[str, str]:
    """Determine the plan in a task of a compiled pipeline; see the component Plan.

    Args:
        config: JSON of the settings, as `to_json` writes it.
        given: Values of `RUN_SETTINGS`, which replace those of the settings.

    Returns:
        The texts of `Plan`, and the settings of the run as TOML under `CONFIG`.

    Raises:
        ConfigError: A setting is wrong, or the source cannot be read as one.
        ResourceError: The weights are missing.
    """
    tree = json.loads(config)
    for name, setting in RUN_SETTINGS.items():
        put(tree, setting, given[name])
    # Validated again, because people choose the values of `given` when they start a run.
    built = configs.build(tree, where="the parameters of the pipeline")
    return {**make(built, source.usable(built).hashed()).texts, CONFIG: to_toml(built)}


def to_json(settings: Settings) -> str:
    """Write settings with absolute paths as JSON for `plan`."""
    return settings.model_dump_json(exclude_none=True)


def outcome_key(plan: Plan, schema_file: Path) -> str:
    """Return the fingerprint of what decides the outcome of a run besides its settings.

    Args:
        plan: The plan of the run.
        schema_file: The accepted schema, which need not exist.
    """
    schema = schema_file.read_bytes() if schema_file.is_file() else b""
    return _fingerprint(dict(plan.texts), schema.decode("utf-8", "replace"))


def _fingerprint(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
