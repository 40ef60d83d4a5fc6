"""What a run depends on, found out before the graph is built.

TFX would ask drivers and resolvers for these things; open-source Kubeflow Pipelines runs neither.
So they are plain values, passed as parameters: the cache is right on both. Nothing here imports
TensorFlow or TFX; the command line does it while those are still loading.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from components import manifest
from components.sources import Scan, SourceOptions
from pipeline.config import Config

_ROOT = Path(__file__).resolve().parent.parent


def source_hash(*packages: str) -> str:
    """Address of the product's own source code in the packages named."""
    digest = hashlib.sha256()
    for package in packages:
        for path in sorted((_ROOT / package).rglob("*.py")):
            digest.update(path.relative_to(_ROOT).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _address(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class RunInputs:
    """Values that become parameters of the components.

    Attributes:
      fingerprint: address of all files of the source, by path and content.
      vocabulary: class names, sorted; their order is that of the probabilities.
      code: address of all source code that makes artifacts.
      model_code: address of the source code that trains and exports.
      run_key: address of configuration, data and code: equal runs make equal models.
      baseline_version: number of the version to compare with, 0 for none.
      baseline_digest: content address of that version.
      push_state: content address of the newest version there is.
      accepted_schema: schema file to judge by, "" to infer one.
      accept_schema_to: where an inferred schema is kept once the data passes.
    """

    fingerprint: str
    vocabulary: tuple[str, ...]
    code: str
    model_code: str
    run_key: str
    baseline_version: int
    baseline_digest: str
    push_state: str
    accepted_schema: str
    accept_schema_to: str


def source_options(config: Config) -> SourceOptions:
    """How the source is to be read: [data] without the source itself."""
    return SourceOptions(**config.data.model_dump(exclude={"source"}))


def find(config: Config, scan: Scan) -> RunInputs:
    """Look at data, versions and schema once, before anything is built."""
    model_code = source_hash("models")
    deciding = config.model_dump(
        include={"data", "split", "judge", "gate", "views", "model", "train", "evaluate"}
    )
    run_key = _address(deciding, scan.fingerprint, model_code)
    base = config.push_directory
    baseline = manifest.baseline_for(base, run_key)
    newest = manifest.latest(base)
    return RunInputs(
        fingerprint=scan.fingerprint,
        vocabulary=tuple(scan.vocabulary),
        code=source_hash("components", "models", "serving"),
        model_code=model_code,
        run_key=run_key,
        baseline_version=baseline.number if baseline else 0,
        baseline_digest=baseline.digest if baseline else "",
        push_state=newest.digest if newest else "",
        accepted_schema=_frozen_schema(config, scan.fingerprint),
        accept_schema_to=str(config.schema_file),
    )


def _data_key(config: Config, fingerprint: str) -> str:
    return _address(config.model_dump(include={"split", "judge"}), fingerprint)


def _frozen_schema(config: Config, fingerprint: str) -> str:
    """Content-addressed copy of the accepted schema, "" while there is none.

    The run whose data the schema was inferred from goes on inferring it, with the same outcome:
    repeated without changes, all of it is cached.
    """
    accepted = config.schema_file
    if not accepted.is_file():
        return ""
    digest = manifest.sha256(accepted)
    if _inferred_from(accepted) == [digest, _data_key(config, fingerprint)]:
        return ""
    frozen = config.out / "schema" / "accepted" / digest[:16] / "schema.pbtxt"
    if not frozen.is_file():
        frozen.parent.mkdir(parents=True, exist_ok=True)
        frozen.write_bytes(accepted.read_bytes())
    return str(frozen)


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
        "data_key": _data_key(config, inputs.fingerprint),
    }
    _origin(accepted).write_text(json.dumps(origin, indent=1, sort_keys=True) + "\n")
