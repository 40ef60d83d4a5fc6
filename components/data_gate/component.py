"""DataGate: stops the run before anything is trained on data that should not be.

ExampleValidator only records anomalies; this component reads them, and the counts. What it guards
takes its blessing as an input, so the gate holds by data. The rules are in
`imgpipe.components.data_gate.rules`; they need no TFX.
"""

import json
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2
from tfx.dsl.component.experimental.annotations import (
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from imgpipe.components.artifacts import DataBlessing, Quarantine
from imgpipe.components.blessings import BLESSED, NOT_BLESSED
from imgpipe.components.data_gate import drift as drifting
from imgpipe.components.data_gate import rules
from imgpipe.components.data_gate import schema as accepting
from imgpipe.components.image_filter.quarantine import read_summary
from imgpipe.components.records import write_text
from imgpipe.models import feature_names as names
from imgpipe.models.errors import DataRefused, ResourceError
from imgpipe.models.file_patterns import matching

GATE_FILE = "gate.json"
_ANOMALIES_FILE = "SchemaDiff.pb"  # as TFX's ExampleValidator names it
_STATISTICS_FILE = "FeatureStats.pb"  # as TFX's StatisticsGen names it


def _read(path: str) -> bytes:
    with tf.io.gfile.GFile(path, "rb") as file:
        return file.read()


def read_anomalies(uri: str) -> dict[str, anomalies_pb2.Anomalies]:
    """Split → anomalies of an ExampleAnomalies artifact."""
    paths = {split: f"{uri}/Split-{split}/{_ANOMALIES_FILE}" for split in names.SPLITS}
    return {
        split: anomalies_pb2.Anomalies.FromString(_read(path))
        for split, path in paths.items()
        if tf.io.gfile.exists(path)
    }


def read_statistics(uri: str) -> dict[str, statistics_pb2.DatasetFeatureStatisticsList]:
    """Split → statistics of an ExampleStatistics artifact; empty for an empty artifact."""
    paths = {split: f"{uri}/Split-{split}/{_STATISTICS_FILE}" for split in names.SPLITS}
    return {
        split: statistics_pb2.DatasetFeatureStatisticsList.FromString(_read(path))
        for split, path in paths.items()
        if tf.io.gfile.exists(path)
    }


def read_counts(uri: str) -> dict[str, int]:
    """Split → number of examples of an ExampleStatistics artifact."""
    return {
        split: int(sum(dataset.num_examples for dataset in found.datasets))
        for split, found in read_statistics(uri).items()
    }


def read_schema(uri: str) -> schema_pb2.Schema:
    """The one schema (text proto) of a Schema artifact."""
    (path,) = matching(f"{uri}/*.pbtxt")
    return text_format.Parse(_read(path).decode(), schema_pb2.Schema())


def infer_schema(statistics_uri: str) -> schema_pb2.Schema:
    """What TFX's SchemaGen would infer from all splits of an ExampleStatistics artifact."""
    import tensorflow_data_validation as tfdv

    found = [s for s in read_statistics(statistics_uri).values() if s.datasets[0].num_examples]
    if not found:
        raise ResourceError(
            f"no statistics in {statistics_uri}: its artifacts are gone. Run again, then accept."
        )
    schema = tfdv.infer_schema(found[0], infer_feature_shape=True)
    for statistics in found[1:]:
        schema = tfdv.update_schema(schema, statistics)
    return schema


def changes(
    statistics_uri: str, baseline_uri: str, schema: schema_pb2.Schema
) -> dict[str, list[rules.Reason]]:
    """Returns what changed since the last blessed run ("drift") and between the splits ("skew")."""
    now = read_statistics(statistics_uri)
    before = read_statistics(baseline_uri) if baseline_uri else {}
    return {
        "drift": [found.reason() for found in drifting.drift(now, before, schema)],
        "skew": [found.reason() for found in drifting.skew(now, schema)],
    }


def write_blessing(
    uri: str,
    reasons: list[rules.Reason],
    accepted_schema: str,
    copy: str = "",
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write `gate.json` with `facts` (and a `copy` of it), then BLESSED or NOT_BLESSED."""
    decision = {
        "blessed": not reasons,
        "reasons": rules.told(reasons),
        "accepted_schema": accepted_schema,
        **(facts or {}),
    }
    content = json.dumps(decision, indent=1)
    for path in filter(None, (f"{uri}/{GATE_FILE}", copy)):
        write_text(path, content)
    write_text(f"{uri}/{NOT_BLESSED if reasons else BLESSED}", "")


@component
def DataGate(
    statistics: InputArtifact[standard_artifacts.ExampleStatistics],
    schema: InputArtifact[standard_artifacts.Schema],
    anomalies: InputArtifact[standard_artifacts.ExampleAnomalies],
    quarantine: InputArtifact[Quarantine],
    blessing: OutputArtifact[DataBlessing],
    vocabulary: Parameter[str],
    min_images_per_class: Parameter[str] = "{}",
    allow_missing_classes: Parameter[int] = 0,
    max_rejected_share: Parameter[float] = 0.1,
    drift: Parameter[str] = "reject",
    skew: Parameter[str] = "warn",
    accept_changes: Parameter[int] = 0,
    fingerprint: Parameter[str] = "",
    baseline_statistics: InputArtifact[standard_artifacts.ExampleStatistics] = None,
    accept_schema_to: Parameter[str] = "",
    decision_to: Parameter[str] = "",
    code: Parameter[str] = "",
) -> None:
    """Pass or refuse the data.

    Args:
        statistics: Of the metadata of the kept images.
        schema: The schema they were validated against.
        anomalies: What ExampleValidator found.
        quarantine: Of ImageFilter.
        blessing: BLESSED or NOT_BLESSED, and `gate.json` with the reasons.
        vocabulary: JSON list of class names in sorted order.
        min_images_per_class: JSON object, split → images that each class needs there.
        allow_missing_classes: 1 to accept classes that no image has, else 0.
        max_rejected_share: Rejected / all images above which the data is refused, 0..1.
        drift: What a change since the last blessed run leads to: reject, warn or ignore.
        skew: What a difference between the splits leads to: reject, warn or ignore.
        accept_changes: 1 when people accepted this data's drift and skew, else 0.
        fingerprint: Of the data, for `imgpipe schema accept`.
        baseline_statistics: Of the last blessed run; may be empty.
        accept_schema_to: Where the accepted schema is kept; written once, by the first run that
            passes. "" for nowhere.
        decision_to: Where a copy of `gate.json` is written, "" for nowhere. TFX removes the
            outputs of a component that raised, and a refused run wants its report too.
        code: Address of the source code that decides, for the cache alone: a changed judge is
            never answered with an old verdict.

    Raises:
        DataRefused: Naming every reason, after `gate.json` is written.
    """
    settings = rules.GateSettings(
        vocabulary=tuple(json.loads(vocabulary)),
        minimum=json.loads(min_images_per_class),
        allow_missing_classes=bool(allow_missing_classes),
        max_rejected_share=max_rejected_share,
    )
    reasons = rules.judge(
        read_summary(quarantine.uri),
        read_anomalies(anomalies.uri),
        read_counts(statistics.uri),
        settings,
    )
    baseline_uri = baseline_statistics.uri if baseline_statistics else ""
    found = changes(statistics.uri, baseline_uri, read_schema(schema.uri))
    levels = {"drift": drift, "skew": skew}
    if accept_changes:
        levels = {kind: "warn" if level == "reject" else level for kind, level in levels.items()}
    reasons += [r for kind in found if levels[kind] == "reject" for r in found[kind]]
    warnings = [r for kind in found if levels[kind] == "warn" for r in found[kind]]
    facts = {
        "warnings": rules.told(warnings),
        "statistics": statistics.uri,
        "fingerprint": fingerprint,
        "vocabulary": list(settings.vocabulary),
    }
    accept = bool(accept_schema_to) and not reasons and not tf.io.gfile.exists(accept_schema_to)
    if accept:
        inferred = read_schema(schema.uri)
        accepting.write(accepting.accepted(inferred, settings.vocabulary), accept_schema_to)
    write_blessing(blessing.uri, reasons, accept_schema_to if accept else "", decision_to, facts)
    if reasons:
        raise DataRefused(rules.refusal(reasons))
