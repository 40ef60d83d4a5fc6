"""The plan of a run: what depends on the images, on earlier runs and on settings of a run.

On one machine the plan is known before the graph is built, and the graph holds its values as
constants. A compiled pipeline runs many times, so its graph holds a placeholder for each value,
which the compiler for Kubeflow connects to the output of the component Plan.

TFX would use drivers and resolvers for this, but open-source Kubeflow Pipelines runs neither. It
also has dynamic execution properties (``component.outputs["x"].future()[0].value``), which work
with neither runner: on one machine, TFX's launcher adds the artifact that holds the value to the
inputs of the component, so that its cache key depends on the number of the artifact instead of the
value. For Kubeflow, TFX's compiler (1.21) refers to a task that does not exist.

Nothing here imports TensorFlow or TFX, since the command line calls it while they are still
loading.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from imgpipe.components.common.splits import SplitRule
from imgpipe.components.common.storage import manifest
from imgpipe.components.data_gate import accepted
from imgpipe.components.example_gen.sources import Scan
from imgpipe.components.image_filter import check
from imgpipe.components.image_filter import overrides as override_files
from imgpipe.models.features.extractor import FeatureExtractor, describe, resolve_precision
from imgpipe.models.files import source_code
from imgpipe.pipeline import source
from imgpipe.pipeline.configuration import config as configs
from imgpipe.pipeline.configuration.config import Config, changed, flat, put

#: `plan` as the component Plan finds it.
PLAN_FN = f"{__name__}:plan"
#: Settings that a run of a compiled pipeline may change, by the name of the parameter.
RUN_SETTINGS = {
    "source": "data.source",
    "threshold": "evaluate.threshold",
    "epochs": "train.epochs",
    "image_size": "model.image_size",
}
#: Settings that are paths and do not change any result. The overrides count by their content.
_PATHS = {"judge": {"overrides", "store"}}
#: Sections of the configuration that decide the result of a run, without `_PATHS`. Of ``[data]``
#: and ``[bank]`` only some settings do; see `make`.
_DECIDING = {"split", "judge", "gate", "views", "model", "train", "fine_tune", "evaluate"}


@dataclass(frozen=True)
class Plan:
    """Parameters of the components. What belongs together is one JSON text.

    Attributes:
        fingerprint: Fingerprint of all files of the source, by path and content.
        vocabulary: JSON list of class names in sorted order.
        code: Fingerprint of the package's source code and of the libraries that compute.
        overrides: People's decisions about single images, for ImageFilter.
        data_key: Fingerprint of the data, its division into splits and its checks.
        baseline_version: Number of the version to compare with, 0 if there is none.
        baseline_digest: Digest of that version.
        accepted_schema: Schema by which the data is judged, "" to infer a schema.
        accepted_data: JSON of the data that was accepted last, by whose classes it is judged.
        accept_changes: 1 if people accept how this data differs from earlier data, otherwise 0.
        network: Description of the backbone, for FeatureBank.
        weights_key: Fingerprint of everything but the images that decides the features.
        training: Arguments of the training function.
        evaluate: The section ``[evaluate]``, by which a model is blessed.
        facts: What the manifest of a published version says about its run.
        report_settings: Settings that the report shows.
    """

    fingerprint: str
    vocabulary: str
    code: str
    overrides: str
    data_key: str
    baseline_version: int
    baseline_digest: str
    accepted_schema: str
    accepted_data: str
    accept_changes: int
    network: str
    weights_key: str
    training: str
    evaluate: str
    facts: str
    report_settings: str

    def to_json(self) -> str:
        """Return the plan as JSON, for the component Plan."""
        return _json(asdict(self))


def make(config: Config, scan: Scan, accept: bool = False) -> Plan:
    """Determine the plan of a run from its data, versions and schema.

    Args:
        config: The configuration.
        scan: Files of the source with their hashes.
        accept: Whether a person accepts changes of the data, as with ``--accept``.

    Returns:
        The parameters of the components.

    Raises:
        ConfigError: Settings do not fit the classes, or a file that is named does not exist.
    """
    config.settings.check_classes(scan.vocabulary)
    vocabulary, code = list(scan.vocabulary), source_code.fingerprint()
    overrides = _overrides(config, scan)
    # Where the files lie does not change the result; the fingerprint stands for their content.
    how = {**asdict(config.data), "vocabulary": vocabulary}
    for name in ("source", "follow_links", "root", "tfds_dir"):
        del how[name]
    run_key = _fingerprint(
        config.model_dump(include=_DECIDING, exclude=_PATHS),
        *(how, scan.fingerprint, code, overrides),
        *(resolve_precision(config.bank.precision), config.bank.budget),
        config.settings.backbone_spec().key(),
    )
    data_key = _fingerprint(
        config.model_dump(include={"split", "judge"}, exclude=_PATHS),
        *(asdict(split_rule(config)), config.data.groups, scan.fingerprint, overrides),
    )
    baseline = manifest.baseline_for(config.push_directory, run_key, vocabulary)
    number = baseline.number if baseline else 0
    judged_by = accepted.parameters(config.schema_file, data_key)
    judged_by["accept_changes"] |= int(accept)
    extractor = FeatureExtractor(config.bank_settings, config.bank.precision)
    training = {
        "model": asdict(config.settings),
        "vocabulary": vocabulary,
        "folds": config.folds,
        "source_hash": code,
    }
    facts = {
        "run_key": run_key,
        "name": config.run.name,
        "vocabulary": vocabulary,
        "fingerprint": scan.fingerprint,
        "backbone": config.model.network,
        "image_size": config.settings.size,
        "baseline_version": number,
    }
    return Plan(
        fingerprint=scan.fingerprint,
        vocabulary=_json(vocabulary),
        code=code,
        overrides=overrides,
        data_key=data_key,
        baseline_version=number,
        baseline_digest=baseline.digest if baseline else "",
        **judged_by,
        network=describe(config.bank_settings, config.bank.precision),
        # View 0 is the image itself; view 1 stands for all augmented ones, which share settings.
        weights_key=f"{extractor.key(0)[:16]}-{extractor.key(1)[:16]}",
        training=_json(training),
        evaluate=_json(config.evaluate.model_dump()),
        facts=_json(facts),
        report_settings=_json(report_settings(config, vocabulary, scan.fingerprint)),
    )


def split_rule(config: Config, given: tuple[str, ...] = ()) -> SplitRule:
    """Return the rule of the splits, of which the source itself names those in `given`."""
    split, gate = config.split, config.gate
    # Nothing is required of test, but a class with enough images gets one.
    return SplitRule(split.seed, split.validation, split.test, given, gate.min_validation, 1)


def check_settings(config: Config) -> check.JudgeSettings:
    """Return the settings of the checks of images."""
    judging = config.judge
    return check.JudgeSettings(
        judging.min_side,
        judging.pixel_limit,
        judging.severity.model_dump(exclude_defaults=True),
        judging.threshold.model_dump(exclude_defaults=True),
        groups=config.data.groups,
    )


def report_settings(
    config: Config, vocabulary: Sequence[str], fingerprint: str = ""
) -> dict[str, object]:
    """Select the settings that the report shows.

    Args:
        config: The validated configuration.
        vocabulary: Class names in sorted order.
        fingerprint: Fingerprint of the source, "" while it is not known.
    """
    return {
        "name": config.run.name,
        "source": config.data.source,
        "vocabulary": list(vocabulary),
        "cross_validate": config.folds,
        "backbone": config.model.network,
        "image_size": config.settings.size,
        "expect": config.expect.model_dump(),
        "fingerprint": fingerprint,
        "seeds": {"split": config.split.seed, "train": config.train.seed},
        "changed": changed(config),
    }


def settings(config: Config) -> dict[str, Any]:
    """Return the settings of a configuration that a run of a compiled pipeline may change."""
    values = dict(flat(config.model_dump()))
    return {name: values[setting] for name, setting in RUN_SETTINGS.items()}


def plan(config: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Determine the plan in a task of a compiled pipeline; see the component Plan.

    Args:
        config: JSON of the configuration, as `to_json` writes it.
        given: Values of `RUN_SETTINGS`, which replace those of the configuration.

    Returns:
        The fields of `Plan`.

    Raises:
        ConfigError: A setting is wrong, or the source cannot be read as one.
        ResourceError: The weights are missing.
    """
    tree = json.loads(config)
    for name, setting in RUN_SETTINGS.items():
        put(tree, setting, given[name])
    # Validated again, because people choose the values of `given` when they start a run.
    built = configs.build(tree, where="the parameters of the pipeline")
    source.check_files(built)
    source.require_outside(built)
    return asdict(make(built, source.scan(built)))


def to_json(config: Config) -> str:
    """Write a configuration as JSON for `plan`, with absolute paths."""
    return config.with_absolute_paths().model_dump_json(exclude_none=True)


def _json(value: object) -> str:
    # Sorted, because TFX's cache compares the text of a parameter.
    return json.dumps(value, sort_keys=True)


def _fingerprint(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _overrides(config: Config, scan: Scan) -> str:
    """Return the overrides as JSON, after checking them against the classes."""
    if config.overrides_file is None:
        return "[]"
    found = override_files.load(config.overrides_file)
    override_files.resolve(found, scan.vocabulary)
    return override_files.to_json(found)
