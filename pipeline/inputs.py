"""What a run depends on, found out before the graph is built.

TFX would ask drivers and resolvers for these things; open-source Kubeflow Pipelines runs neither.
So they are plain values, passed as parameters: the cache is right on both. Nothing here imports
TensorFlow or TFX; the command line does it while those are still loading.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from imgpipe.components.data_gate.rules import GateSettings
from imgpipe.components.example_gen.sources import Scan, SourceOptions
from imgpipe.components.image_filter import overrides as reviews
from imgpipe.components.image_filter.check import Settings
from imgpipe.components.model_pusher import manifest
from imgpipe.models import feature_names as names
from imgpipe.models.atomic_write import atomic_write
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.extractor import resolve_precision
from imgpipe.pipeline.config import WEIGHT_FILES, Config

_ROOT = Path(__file__).resolve().parent.parent
#: Settings that say where something lies, and decide nothing.
_PLACES = {"judge": {"overrides", "store"}}


#: What decides about data: own code, and the packages whose decoders and readers it calls.
_DATA_CODE = (
    "components/example_gen",
    "components/image_file",
    "components/image_filter",
    "components/data_gate",
    "components/image_record.py",
    "components/records.py",
    "models/preprocess.py",
    "models/feature_names.py",
)
#: What decides the content of the feature bank, beside `FeatureExtractor.key`.
_BANK_CODE = (
    "components/feature_bank",
    "components/blob_store.py",
    "models/extractor.py",
    "models/classifier.py",
    "models/cuts.py",
)
_DATA_PACKAGES = ("pillow", "tensorflow", "tensorflow-data-validation")
_MODEL_PACKAGES = ("tensorflow", "keras")
#: What decides about LiteRT files and about folds, beside `models`.
_GATE_CODE = (
    "models",
    "components/lite_exporter",
    "components/cross_validator",
)
_GATE_PACKAGES = (*_MODEL_PACKAGES, "ai-edge-litert")


def source_hash(*places: str, packages: Sequence[str] = ()) -> str:
    """Address of the product's own source code in some files and folders.

    Args:
      places: files and folders below the root of the product.
      packages: installed packages whose version belongs to the address.
    """
    digest = hashlib.sha256()
    for place in places:
        path = _ROOT / place
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.relative_to(_ROOT).as_posix().encode())
            digest.update(file.read_bytes())
    for package in packages:
        digest.update(f"{package} {importlib.metadata.version(package)}".encode())
    return digest.hexdigest()[:16]


def _address(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class RunInputs:
    """Values that become parameters of the components.

    Attributes:
      fingerprint: address of all files of the source, by path and content.
      vocabulary: class names, sorted; their order is that of the probabilities.
      data_code: address of the source code that reads, judges and gates data.
      bank_code: address of the source code that extracts features.
      model_code: address of the source code that trains and exports.
      serving_code: address of the source code that serves.
      gate_code: address of the source code that makes and judges LiteRT files, and that judges
        by folds.
      run_key: address of configuration, data and code: equal runs make equal models.
      split_key: address of how images are divided.
      baseline_version: number of the version to compare with, 0 for none.
      baseline_digest: content address of that version.
      accepted_schema: schema file to judge by, "" to infer one.
      accept_schema_to: where an inferred schema is kept once the data passes.
      overrides: what people decided about single images, as JSON for ImageFilter.
      accept_changes: whether people accepted the drift and skew of this data.
    """

    fingerprint: str
    vocabulary: tuple[str, ...]
    data_code: str
    bank_code: str
    model_code: str
    serving_code: str
    gate_code: str
    run_key: str
    split_key: str
    baseline_version: int
    baseline_digest: str
    accepted_schema: str
    accept_schema_to: str
    overrides: str = "[]"
    accept_changes: bool = False


def source_options(config: Config) -> SourceOptions:
    """How the source is to be read: [data] without the source itself."""
    return SourceOptions(**config.data.model_dump(exclude={"source"}))


def judge_settings(config: Config, vocabulary: Sequence[str] | None = None) -> Settings:
    """What the checks are measured by; with what people decided where the classes are given."""
    judging = config.judge
    given = config.overrides_file if vocabulary is not None else None
    return Settings(
        min_side=judging.min_side,
        pixel_limit=judging.pixel_limit,
        severity=judging.severity.model_dump(exclude_defaults=True),
        threshold=judging.threshold.model_dump(exclude_defaults=True),
        overrides=reviews.resolve(reviews.load(given), vocabulary or ()) if given else {},
    )


def gate_settings(config: Config, vocabulary: Sequence[str]) -> GateSettings:
    """What the data gate demands of the counts of images."""
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


def find(config: Config, scan: Scan) -> RunInputs:
    """Look at data, versions and schema once, before anything is built."""
    data_code = source_hash(*_DATA_CODE, packages=_DATA_PACKAGES)
    model_code = source_hash("models", packages=_MODEL_PACKAGES)
    deciding = config.model_dump(
        include={
            "split",
            "judge",
            "gate",
            "views",
            "model",
            "train",
            "fine_tune",
            "tune",
            "evaluate",
        },
        exclude=_PLACES,
    )
    overrides = _overrides(config, scan.vocabulary)
    how = config.data.model_dump(
        exclude={"source", "root", "tfds_dir", "follow_links"}
    )  # not where it lies
    how["vocabulary"] = list(scan.vocabulary)
    precision = resolve_precision(config.bank.precision)
    config.settings.check_classes(scan.vocabulary)
    weights = config.settings.backbone_spec().key()
    run_key = _address(
        *(deciding, how, precision, weights, scan.fingerprint, data_code, model_code, overrides)
    )
    base = config.push_directory
    baseline = manifest.baseline_for(base, run_key)
    return RunInputs(
        fingerprint=scan.fingerprint,
        vocabulary=tuple(scan.vocabulary),
        data_code=data_code,
        bank_code=source_hash(*_BANK_CODE),
        model_code=model_code,
        serving_code=source_hash("serving", "components/serving_validator"),
        gate_code=source_hash(*_GATE_CODE, packages=_GATE_PACKAGES),
        run_key=run_key,
        split_key=_address(config.split.model_dump(), how, sorted(scan.given_splits)),
        baseline_version=baseline.number if baseline else 0,
        baseline_digest=baseline.digest if baseline else "",
        accepted_schema=_frozen_schema(config, scan.fingerprint, overrides),
        accept_schema_to=str(config.schema_file),
        overrides=overrides,
        accept_changes=scan.fingerprint in accepted_data(config.schema_file),
    )


def _overrides(config: Config, vocabulary: Sequence[str]) -> str:
    """The file that `judge.overrides` names, checked against the classes."""
    if config.overrides_file is None:
        return "[]"
    found = reviews.load(config.overrides_file)
    reviews.resolve(found, vocabulary)
    return reviews.to_json(found)


def _proposals(config: Config) -> int:
    """Number of overrides that nobody confirmed; 0 where the file cannot be read any more."""
    try:
        found = reviews.load(config.overrides_file) if config.overrides_file else ()
    except ConfigError:
        return 0
    return len(found) - len(reviews.confirmed(found))


def _data_key(config: Config, fingerprint: str, overrides: str) -> str:
    deciding = config.model_dump(include={"split", "judge"}, exclude=_PLACES)
    return _address(deciding, fingerprint, overrides)


def _frozen_schema(config: Config, fingerprint: str, overrides: str) -> str:
    """Place of the content-addressed copy of the accepted schema, "" while there is none.

    The run whose data the schema was inferred from goes on inferring it, with the same outcome:
    repeated without changes, all of it is cached.
    """
    accepted = config.schema_file
    if not accepted.is_file():
        if config.gate.schema_file:
            raise ConfigError(
                f"gate.schema_file: {accepted} does not exist. Leave it empty to infer a schema "
                "from the first data that passes."
            )
        return ""
    digest = manifest.sha256(accepted)
    if _inferred_from(accepted) == [digest, _data_key(config, fingerprint, overrides)]:
        return ""
    return str(config.out / "schema" / "accepted" / digest[:16] / "schema.pbtxt")


def freeze_schema(config: Config, inputs: RunInputs) -> None:
    """Make the copy that `RunInputs.accepted_schema` names, whole or not at all.

    Raises:
      ConfigError: the accepted schema is none, or it changed since it was looked at.
    """
    from imgpipe.components.data_gate import schema

    if not inputs.accepted_schema:
        return
    schema.read(config.schema_file)
    frozen = Path(inputs.accepted_schema)
    content = config.schema_file.read_bytes()
    if hashlib.sha256(content).hexdigest()[:16] != frozen.parent.name:
        raise ConfigError(f"{config.schema_file} was changed while the run began; run again.")
    if not frozen.is_file() or frozen.read_bytes() != content:
        atomic_write(frozen, content)


def accepted_data(schema_file: Path) -> list[str]:
    """Fingerprints of data whose drift and skew people accepted."""
    try:
        return list(json.loads(_accepted_list(schema_file).read_text())["data"])
    except (OSError, ValueError, KeyError, TypeError):
        return []


def accept_data(schema_file: Path, fingerprint: str) -> None:
    """Note that the drift and skew of this data are right."""
    known = accepted_data(schema_file)
    if fingerprint not in known:
        content = json.dumps({"data": [*known, fingerprint]}, indent=1)
        atomic_write(_accepted_list(schema_file), content)


def _accepted_list(schema_file: Path) -> Path:
    return schema_file.with_suffix(".accepted.json")


def _origin(accepted: Path) -> Path:
    return accepted.with_suffix(".origin.json")


def _inferred_from(accepted: Path) -> list[str]:
    try:
        origin = json.loads(_origin(accepted).read_text())
        return [origin["schema_sha256"], origin["data_key"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def remember_schema_origin(config: Config, inputs: RunInputs) -> None:
    """Note which data the schema was inferred from, once DataGate has accepted it."""
    accepted = config.schema_file
    if inputs.accepted_schema or not accepted.is_file():
        return
    origin = {
        "schema_sha256": manifest.sha256(accepted),
        "data_key": _data_key(config, inputs.fingerprint, inputs.overrides),
    }
    atomic_write(_origin(accepted), json.dumps(origin, indent=1, sort_keys=True))


def check_files(config: Config) -> None:
    """Look for the files that the configuration names, before anything heavy is imported.

    Raises:
      ConfigError: the overrides are missing or are not what they should be.
      ResourceError: the weights are missing.
    """
    if config.overrides_file is not None:
        reviews.load(config.overrides_file)
    weights = config.settings.weights
    if weights.endswith(WEIGHT_FILES) and not Path(weights).is_file():
        raise ResourceError(f"model.weights: there is no file {weights}.")


def report_settings(config: Config, vocabulary: Sequence[str]) -> dict[str, object]:
    """What the report says of the configuration."""
    return {
        "name": config.run.name,
        "source": config.data.source,
        "vocabulary": list(vocabulary),
        "proposals": _proposals(config),
        "threshold": config.evaluate.threshold,
        "max_drop": config.evaluate.max_drop,
        "cross_validate": config.evaluate.cross_validate,
        "lite": list(config.export.lite),
        "max_loss": config.export.max_loss,
        "backbone": config.model.backbone,
        "image_size": config.settings.size,
        "views": asdict(config.views.spec),
        "mixing": asdict(config.views.mixing),
        "expect": config.expect.model_dump(),
    }
