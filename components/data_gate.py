"""DataGate: stops the run before anything is trained on data that should not be.

ExampleValidator only records anomalies; this component reads them, and the counts. What it guards
takes its blessing as an input, so the gate holds by data. The rules are in
`components.checks.gating`; they need no TFX.
"""

import json
from dataclasses import asdict

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

from components.artifacts import DataBlessing, Quarantine
from components.checks import gating
from components.checks import schema as accepting
from components.checks.quarantine import read_summary
from components.records import write_text
from models import feature_names as names
from models.errors import DataRefused

BLESSED, NOT_BLESSED = "BLESSED", "NOT_BLESSED"
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


def read_counts(uri: str) -> dict[str, int]:
    """Split → number of examples of an ExampleStatistics artifact."""
    counts = {}
    for split in names.SPLITS:
        path = f"{uri}/Split-{split}/{_STATISTICS_FILE}"
        if tf.io.gfile.exists(path):
            found = statistics_pb2.DatasetFeatureStatisticsList.FromString(_read(path))
            counts[split] = int(sum(dataset.num_examples for dataset in found.datasets))
    return counts


def read_schema(uri: str) -> schema_pb2.Schema:
    """The one schema (text proto) of a Schema artifact."""
    (path,) = tf.io.gfile.glob(f"{uri}/*.pbtxt")
    return text_format.Parse(_read(path).decode(), schema_pb2.Schema())


def write_blessing(
    uri: str, reasons: list[gating.Reason], accepted_schema: str, copy: str = ""
) -> None:
    """Write `gate.json` (and a `copy` of it), then BLESSED or NOT_BLESSED."""
    decision = {
        "blessed": not reasons,
        "reasons": [asdict(reason) | {"sentence": reason.sentence()} for reason in reasons],
        "accepted_schema": accepted_schema,
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
        accept_schema_to: Where the accepted schema is kept; written once, by the first run that
            passes. "" for nowhere.
        decision_to: Where a copy of `gate.json` is written, "" for nowhere. TFX removes the
            outputs of a component that raised, and a refused run wants its report too.
        code: Address of the source code that decides, for the cache alone: a changed judge is
            never answered with an old verdict.

    Raises:
        DataRefused: Naming every reason, after `gate.json` is written.
    """
    settings = gating.GateSettings(
        vocabulary=tuple(json.loads(vocabulary)),
        minimum=json.loads(min_images_per_class),
        allow_missing_classes=bool(allow_missing_classes),
        max_rejected_share=max_rejected_share,
        schema_path=accept_schema_to,
    )
    reasons = gating.judge(
        read_summary(quarantine.uri),
        read_anomalies(anomalies.uri),
        read_counts(statistics.uri),
        settings,
    )
    accept = bool(accept_schema_to) and not reasons and not tf.io.gfile.exists(accept_schema_to)
    if accept:
        inferred = read_schema(schema.uri)
        accepting.write(accepting.accepted(inferred, settings.vocabulary), accept_schema_to)
    write_blessing(blessing.uri, reasons, accept_schema_to if accept else "", decision_to)
    if reasons:
        raise DataRefused(gating.refusal(reasons))
