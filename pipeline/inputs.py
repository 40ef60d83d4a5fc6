"""Determines the inputs of a run: on one machine before the graph is built, on Kubeflow in Plan.

TFX would use drivers and resolvers for this, but open-source Kubeflow Pipelines runs neither.
Therefore the inputs are plain values that are passed as parameters (`imgpipe.pipeline.plan`), so
that caching is correct on both runners. Nothing here imports TensorFlow or TFX, since the command
line calls it while they are still loading.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from imgpipe.components.data_gate import origin
from imgpipe.components.data_gate.rules import GateSettings
from imgpipe.components.example_gen.sources import Scan, SourceOptions
from imgpipe.components.example_gen.sources.base import PATHS
from imgpipe.components.image_filter import overrides as override_files
from imgpipe.components.image_filter.check import Settings
from imgpipe.components.splits import SplitRule
from imgpipe.components.storage import manifest
from imgpipe.models import feature_names as names
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.features.extractor import resolve_precision
from imgpipe.models.files import source_code
from imgpipe.models.files.atomic_write import atomic_write
from imgpipe.pipeline.configuration import flat_settings
from imgpipe.pipeline.configuration.config import WEIGHT_FILES, Config

#: Settings that are paths and do not change any result. The overrides count by their content.
_PATHS = {"judge": {"overrides", "store"}}
#: Sections of the configuration that decide the result of a run, without `_PATHS`. Of ``[data]``
#: and ``[bank]`` only some settings do; see `find`.
_DECIDING = {"split", "judge", "gate", "views", "model", "train", "fine_tune", "evaluate"}


def _fingerprint(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class PassedInputs:
    """Inputs of a run that components receive as they are.

    Attributes:
        fingerprint: Fingerprint of all files of the source, by path and content.
        overrides: People's decisions about single images, as JSON for ImageFilter.
        split_key: Fingerprint of the division into splits.
        data_key: Fingerprint of the data, its division into splits and its checks.
        baseline_version: Number of the version to compare with, 0 if there is none.
        baseline_digest: Digest of that version.
        accepted_schema: Schema file by which the data is judged, "" to infer a schema.
        code: Fingerprint of the package's source code and of the libraries that compute.
    """

    fingerprint: str
    overrides: str
    split_key: str
    data_key: str
    baseline_version: int
    baseline_digest: str
    accepted_schema: str
    code: str


@dataclass(frozen=True)
class RunInputs(PassedInputs):
    """Values that become parameters of the components.

    Attributes:
        vocabulary: Sorted class names; the probabilities are in the same order.
        run_key: Fingerprint of configuration, data and code. Runs with equal keys make equal
            models.
        accept_changes: Whether the anomalies, drift and skew of this data are accepted.
    """

    vocabulary: tuple[str, ...]
    run_key: str
    accept_changes: bool


def source_options(config: Config) -> SourceOptions:
    """Options of the source: the section [data] without the source itself."""
    given = asdict(config.data)
    del given["source"]
    return SourceOptions(**given)


def judge_settings(config: Config, vocabulary: Sequence[str] | None = None) -> Settings:
    """Return the settings of the checks.

    Args:
        config: The configuration.
        vocabulary: Class names, with which overrides are read and checked. None leaves them out.

    Returns:
        The settings of ImageFilter.

    Raises:
        ConfigError: The overrides cannot be read or name unknown classes.
    """
    judging = config.judge
    overrides: Mapping[str, override_files.Override] = {}
    if vocabulary is not None and config.overrides_file:
        overrides = override_files.resolve(override_files.load(config.overrides_file), vocabulary)
    return Settings(
        min_side=judging.min_side,
        pixel_limit=judging.pixel_limit,
        severity=judging.severity.model_dump(exclude_defaults=True),
        threshold=judging.threshold.model_dump(exclude_defaults=True),
        overrides=overrides,
    )


def gate_settings(config: Config, vocabulary: Sequence[str]) -> GateSettings:
    """Return the data gate's requirements on the number of images."""
    gate = config.gate
    return GateSettings(
        vocabulary=tuple(vocabulary),
        minimum={
            names.TRAIN: gate.min_train,
            names.VALIDATION: gate.min_validation,
            names.TEST: gate.min_test,
        },
        allow_missing_classes=gate.allow_missing_classes,
        max_rejected_share=gate.max_rejected_share,
    )


def split_rule(config: Config, given: tuple[str, ...] = ()) -> SplitRule:
    """Return the rule by which images are assigned to splits.

    Args:
        config: The configuration.
        given: Splits that the source itself names.
    """
    split, gate = config.split, config.gate
    return SplitRule(
        split.seed,
        split.validation,
        split.test,
        given,
        gate.min_validation,
        max(gate.min_test, 1),  # 0 requires nothing, but a class with enough images gets one
    )


def find(config: Config, scan: Scan, accept: bool = False) -> RunInputs:
    """Determine the inputs of a run from its data, versions and schema.

    Args:
        config: The configuration.
        scan: Files of the source with their hashes.
        accept: Whether a person accepts changes of the data, as with ``--accept``.

    Returns:
        The parameters of the components.

    Raises:
        ConfigError: Settings do not fit the classes, or a file that is named does not exist.
    """
    deciding = config.model_dump(include=_DECIDING, exclude=_PATHS)
    overrides = _overrides(config, scan.vocabulary)
    # Where the files lie does not change the result; the fingerprint stands for their content.
    how = asdict(config.data)
    for name in ("source", "follow_links", *PATHS):
        del how[name]
    how["vocabulary"] = list(scan.vocabulary)
    precision = resolve_precision(config.bank.precision)
    config.settings.check_classes(scan.vocabulary)
    weights = config.settings.backbone_spec().key()
    bank = precision, config.bank.budget, weights
    code = source_code.fingerprint()
    run_key = _fingerprint(deciding, how, *bank, scan.fingerprint, code, overrides)
    baseline = manifest.baseline_for(config.push_directory, run_key)
    data_key = _data_key(config, scan.fingerprint, overrides)
    return RunInputs(
        fingerprint=scan.fingerprint,
        vocabulary=tuple(scan.vocabulary),
        code=code,
        run_key=run_key,
        split_key=_split_key(config, scan.given_splits, how),
        baseline_version=baseline.number if baseline else 0,
        baseline_digest=baseline.digest if baseline else "",
        accepted_schema=_frozen_schema(config, data_key),
        data_key=data_key,
        overrides=overrides,
        accept_changes=accept or _accepted(config.push_directory, run_key),
    )


def _accepted(versions: Path, run_key: str) -> bool:
    """Whether a run with the same key was accepted before, and published its model."""
    found = manifest.versions(versions)
    return any(one.run_key == run_key and one.manifest.get("accepted_changes") for one in found)


def _overrides(config: Config, vocabulary: Sequence[str]) -> str:
    """Return the overrides as JSON, after checking them against the classes."""
    if config.overrides_file is None:
        return "[]"
    found = override_files.load(config.overrides_file)
    override_files.resolve(found, vocabulary)
    return override_files.to_json(found)


def _proposals(config: Config) -> int:
    """Return the number of unconfirmed overrides; 0 if the file cannot be read any more."""
    try:
        found = override_files.load(config.overrides_file) if config.overrides_file else ()
    except ConfigError:
        return 0
    return len(found) - len(override_files.confirmed(found))


def _split_key(config: Config, given: Iterable[str], how: object) -> str:
    """Fingerprint of how images are assigned to splits."""
    rule = asdict(split_rule(config, tuple(sorted(given))))
    # Near-duplicates are placed in one split.
    return _fingerprint(rule, how, config.judge.threshold.model_dump(include={"near_duplicate"}))


def _data_key(config: Config, fingerprint: str, overrides: str) -> str:
    deciding = config.model_dump(include={"split", "judge"}, exclude=_PATHS)
    return _fingerprint(deciding, asdict(split_rule(config)), fingerprint, overrides)


def _frozen_schema(config: Config, data_key: str) -> str:
    """Path of the copy of the accepted schema, named by its digest; "" if there is none.

    A run with the data from which the schema was inferred infers it again, with the same result,
    so that a repetition without changes is taken from the cache.
    """
    accepted = config.schema_file
    if not accepted.is_file():
        if config.gate.schema_file:
            raise ConfigError(
                f"gate.schema_file: {accepted} does not exist. Leave it empty to infer a schema "
                "from the first data that passes."
            )
        return ""
    if origin.is_from(accepted, data_key):
        return ""
    # TFX's cache compares the path alone, so the path has to change with the content.
    digest = manifest.sha256(accepted)
    return str(config.out / "schema" / "accepted" / digest[:16] / "schema.pbtxt")


def freeze_schema(config: Config, inputs: RunInputs) -> None:
    """Write the copy of the accepted schema that `RunInputs.accepted_schema` names.

    Args:
        config: The configuration.
        inputs: Inputs of the run.

    Raises:
        ConfigError: The file is not a schema, or it changed since `find` read it.
    """
    from imgpipe.components.data_gate import schema

    if not inputs.accepted_schema:
        return
    schema.read(config.schema_file)
    frozen = Path(inputs.accepted_schema)
    content = config.schema_file.read_bytes()
    if hashlib.sha256(content).hexdigest()[:16] != frozen.parent.name:
        raise ConfigError(f"{config.schema_file} was changed while the run started; run again.")
    if not frozen.is_file() or frozen.read_bytes() != content:
        atomic_write(frozen, content)


def check_files(config: Config) -> None:
    """Check the files that the configuration names, before TensorFlow is imported.

    Args:
        config: The configuration.

    Raises:
        ConfigError: The overrides are missing or malformed.
        ResourceError: The weights are missing.
    """
    if config.overrides_file is not None:
        override_files.load(config.overrides_file)
    weights = config.settings.weights
    if weights.endswith(WEIGHT_FILES) and not Path(weights).is_file():
        raise ResourceError(f"model.weights: there is no file {weights}.")


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
        "proposals": _proposals(config),
        "threshold": config.evaluate.threshold,
        "max_drop": config.evaluate.max_drop,
        "cross_validate": config.folds,
        "backbone": config.model.network,
        "image_size": config.settings.size,
        "views": asdict(config.settings.views),
        "expect": config.expect.model_dump(),
        "fingerprint": fingerprint,
        "seeds": {"split": config.split.seed, "train": config.train.seed},
        "changed": flat_settings.changed(config),
    }
