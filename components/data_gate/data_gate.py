"""DataGate decides whether the data may be trained on; SchemaGen gives it the schema to compare.

TFX's ExampleValidator only records anomalies. DataGate reads them and the counts of images.
The components that depend on the gate take its blessing as an input. The rules are in
`imgpipe.components.data_gate.rules`, which needs no TFX.
"""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
import tensorflow as tf
from google.protobuf import text_format
from google.protobuf.message import DecodeError
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import ExampleAnomalies, ExampleStatistics, Schema

from imgpipe.components.common import artifacts, images
from imgpipe.components.common.artifacts import DataBlessing, Quarantine
from imgpipe.components.common.storage import last_version, manifest
from imgpipe.components.common.storage.records import read_bytes, write_text
from imgpipe.components.data_gate import accepted, changes, rules
from imgpipe.components.data_gate import drift as comparison
from imgpipe.components.data_gate import schema as schemas
from imgpipe.components.image_filter.quarantine import read_summary
from imgpipe.models import names
from imgpipe.models.errors import DataRefused, ResourceError
from imgpipe.models.finding import Finding
from imgpipe.models.settings.given import Given
from imgpipe.models.settings.places import GATE_FILE, SCHEMA_FILE

_ANOMALIES_FILE = "SchemaDiff.pb"  # written by TFX's ExampleValidator
STATISTICS_FILE = "FeatureStats.pb"  # written by StatisticsGen, with the name of TFX


def _by_split(uri: str, file: str, message: Any) -> dict[str, Any]:
    """Read a protobuf message of each split that has the file; a damaged one is a ResourceError."""
    messages = {}
    for split in names.SPLITS:
        path = f"{uri}/Split-{split}/{file}"
        if tf.io.gfile.exists(path):
            try:
                messages[split] = message.FromString(read_bytes(path))
            except DecodeError as error:
                raise _damaged(path, error) from error
    return messages


def _damaged(path: str, error: Exception) -> ResourceError:
    return ResourceError(
        f"{path} is damaged ({type(error).__name__}). Expected the file that a run wrote. Delete "
        "the folder above it if it belongs to a published version, and run the pipeline again."
    )


def read_statistics(uri: str) -> dict[str, comparison.Statistics]:
    """Read the statistics by split from the ExampleStatistics artifact at `uri`.

    The result is empty for an empty artifact.
    """
    return _by_split(uri, STATISTICS_FILE, comparison.Statistics)


def read_schema(uri: str) -> schema_pb2.Schema:
    """Read the schema from the Schema artifact at `uri`.

    Raises:
        ResourceError: The file is damaged.
    """
    (path,) = tf.io.gfile.glob(f"{uri}/*.pbtxt")
    try:
        return text_format.Parse(read_bytes(path).decode(), schema_pb2.Schema())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error


def infer_schema(statistics_uri: str) -> schema_pb2.Schema:
    """Infer a schema from the ExampleStatistics of all splits, as TFX's SchemaGen does.

    The schema has no feature if there is no example. Raises ResourceError without statistics.
    """
    import tensorflow_data_validation as tfdv

    all_statistics = read_statistics(statistics_uri).values()
    if not all_statistics:
        raise ResourceError(
            f"there are no statistics in {statistics_uri}: the artifacts of the run have been "
            "removed. Run again."
        )
    schema = schema_pb2.Schema()
    for statistics in all_statistics:
        if comparison.image_count(statistics):
            schema = (
                tfdv.update_schema(schema, statistics)
                if schema.feature
                else tfdv.infer_schema(statistics, infer_feature_shape=True)
            )
    return schema


@component
def SchemaGen(
    statistics: InputArtifact[ExampleStatistics],
    schema: OutputArtifact[Schema],
    settings: Parameter[str],
) -> None:
    """Write the schema that the data is validated against: the accepted one, or an inferred one.

    TFX has one component that infers (SchemaGen) and another one that imports (ImportSchemaGen).
    Which of them is needed changes from run to run, and a compiled pipeline cannot change its
    tasks, so that one component does both.

    Args:
        statistics: Statistics of the metadata of the kept images.
        schema: Output: the schema in protobuf's text format.
        settings: What it reads; see `imgpipe.models.settings.given`.

    Raises:
        ConfigError: The accepted schema is not a schema.
        ResourceError: There are no statistics to infer a schema from.
    """
    text = Given.read(settings).facts.accepted_schema
    current = schemas.parse(text) if text else infer_schema(statistics.uri)
    schemas.write(current, f"{schema.uri}/{SCHEMA_FILE}")


@component
def DataGate(
    statistics: InputArtifact[ExampleStatistics],
    schema: InputArtifact[Schema],
    anomalies: InputArtifact[ExampleAnomalies],
    quarantine: InputArtifact[Quarantine],
    blessing: OutputArtifact[DataBlessing],
    settings: Parameter[str],
) -> None:
    """Bless or refuse the data.

    Args:
        statistics: Statistics of the metadata of the kept images.
        schema: Schema that the metadata was validated against.
        anomalies: Anomalies that ExampleValidator found.
        quarantine: Quarantine of ImageFilter.
        blessing: Output: BLESSED or NOT_BLESSED, and `gate.json` with the reasons.
        settings: What it reads; see `imgpipe.models.settings.given`.

    Raises:
        ResourceError: The last version has been removed or damaged since the run began.
        DataRefused: There are reasons against the data. The message names them; `gate.json` has
            been written.
    """
    given = Given.read(settings)
    facts = given.facts
    levels = given.settings.gate.levels
    now = read_statistics(statistics.uri)
    current = read_schema(schema.uri)
    last = json.loads(facts.accepted_data).get("classes", {})
    accepted_classes = schemas.classes(current, last)
    required = rules.Requirements(given.settings.gate, facts.vocabulary, accepted_classes)
    before = _statistics_of_last_version(given)
    drifts = comparison.changes(now, before, current)
    warned = [change for change in drifts if levels[change["reason"]] == "warn"]
    anomalies_by_split = _by_split(anomalies.uri, _ANOMALIES_FILE, anomalies_pb2.Anomalies)
    summary = read_summary(quarantine.uri)
    reasons = rules.reasons_against(summary, anomalies_by_split, required)
    reasons += [change for change in drifts if levels[change["reason"]] == "reject"]
    if facts.accept_changes:
        acceptable = [reason for reason in reasons if reason["reason"] in rules.ACCEPTABLE]
        warned += acceptable
        reasons = [reason for reason in reasons if reason not in acceptable]
        # Drift alone does not: the limits of the schema stay as they are.
        concerns_schema = any(reason["reason"] not in levels for reason in acceptable)
        if not reasons and concerns_schema:
            current = _revised(given, current, now)
    kept = images.kept(quarantine.uri)
    decision: rules.DataDecision = {
        "blessed": not reasons,
        "reasons": reasons,
        "changes": _since_accepted(given, kept),  # before these images are accepted
        "accepted_schema": "" if reasons else _accept(given, current, kept),
        "warnings": warned,
    }
    _write_decision(decision, blessing.uri, str(given.settings.places.decision))
    if reasons:
        raise DataRefused(rules.refusal(reasons))


def _statistics_of_last_version(given: Given) -> dict[str, comparison.Statistics]:
    """Read the statistics of the data of the last version; none without such a version."""
    versions = given.settings.places.versions
    last = last_version.in_use(versions, given.facts.data_version, given.facts.data_digest)
    with last as version:
        if version is None:
            return {}
        return read_statistics(str(version.folder / manifest.PROVENANCE / "statistics"))


def _revised(
    given: Given, schema: schema_pb2.Schema, now: Mapping[str, comparison.Statistics]
) -> schema_pb2.Schema:
    """Widen a schema so that it allows the data, write it, and return it."""
    with_images = [statistics for statistics in now.values() if comparison.image_count(statistics)]
    revised = schemas.revised(schema, with_images, given.facts.vocabulary)
    schemas.write(revised, str(given.settings.places.schema))
    return revised


def _since_accepted(given: Given, kept: pd.DataFrame) -> list[Finding]:
    """Return what changed since the data that was accepted last."""
    before = accepted.images(given.settings.places.schema)
    return changes.since_accepted(before, kept, bool(given.facts.accept_changes))


def _accept(given: Given, schema: schema_pb2.Schema, kept: pd.DataFrame) -> str:
    """Record the data, and return the path of the accepted schema if there was none before."""
    written = ""
    path = given.settings.places.schema
    if not path.exists():
        written = str(path)
        schemas.write(schemas.accepted(schema, given.facts.vocabulary), written)
    accepted.write(path, kept, given)
    return written


def _write_decision(decision: rules.DataDecision, uri: str, copy: str) -> None:
    """Write `gate.json`, its copy, and then BLESSED or NOT_BLESSED."""
    for path in (f"{uri}/{GATE_FILE}", copy):
        write_text(path, json.dumps(decision, indent=1))
    artifacts.mark(uri, artifacts.BLESSED if decision["blessed"] else artifacts.NOT_BLESSED)
