"""The accepted schema, which is derived from the schema that TFDV infers.

An inferred schema is too strict for later data: it allows only the image formats of the first run.
The accepted schema lists the classes exactly, requires only that most images have a known format
and mode, and does not restrict sizes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from imgpipe.components.common.storage.records import write_text
from imgpipe.components.data_gate.drift import Statistics, with_comparators
from imgpipe.models import names
from imgpipe.models.errors import ConfigError

#: Share of the images that must have a known format and mode. A first PNG among JPEG files must
#: not stop a run, but a change of most files must.
MIN_KNOWN_SHARE = 0.5
_MAJORITY = (names.FORMAT, names.MODE)


def accepted(inferred: schema_pb2.Schema, vocabulary: Sequence[str]) -> schema_pb2.Schema:
    """Derive the schema that later runs are validated against.

    Args:
        inferred: Schema that TFDV inferred from a run that passed the gate.
        vocabulary: Class names in sorted order.
    """
    schema = schema_pb2.Schema()
    schema.CopyFrom(inferred)
    domains = {domain.name: list(domain.value) for domain in schema.string_domain}
    del schema.string_domain[:]
    exact = {names.LABEL: list(vocabulary), names.SPLIT: list(names.SPLITS)}
    for feature in schema.feature:
        values = domains.get(feature.domain, [])
        feature.ClearField("domain_info")  # later images may have other sizes and counts
        feature.presence.min_fraction = 1.0
        feature.presence.min_count = 1
        if feature.name in exact:
            _set_domain(schema, feature, exact[feature.name])
        elif feature.name in _MAJORITY and values:
            _set_domain(schema, feature, values)
            feature.distribution_constraints.min_domain_mass = MIN_KNOWN_SHARE
    return with_comparators(schema)


def revised(
    current: schema_pb2.Schema, statistics: Iterable[Statistics], vocabulary: Sequence[str]
) -> schema_pb2.Schema:
    """Return a schema that allows other data, too, whose statistics are given by split.

    Limits that people set are kept, and the classes are listed exactly.
    """
    import tensorflow_data_validation as tfdv

    out = schema_pb2.Schema()
    out.CopyFrom(current)
    for split_statistics in statistics:
        out = tfdv.update_schema(out, split_statistics)
    others = [domain for domain in out.string_domain if domain.name != names.LABEL]
    del out.string_domain[:]
    out.string_domain.extend(others)
    for feature in out.feature:
        if feature.name == names.LABEL:
            _set_domain(out, feature, vocabulary)
    return with_comparators(out)


def _set_domain(
    schema: schema_pb2.Schema, feature: schema_pb2.Feature, values: Sequence[str]
) -> None:
    feature.domain = feature.name
    schema.string_domain.add(name=feature.name, value=values)


def classes(schema: schema_pb2.Schema, counts: Mapping[str, int]) -> dict[str, int | None]:
    """Return the classes that a schema lists, with their number of images, None if unknown."""
    domains = (domain.value for domain in schema.string_domain if domain.name == names.LABEL)
    return {name: counts.get(name) for name in next(domains, ())}


def read(path: Path) -> schema_pb2.Schema:
    """Read an accepted schema; see `parse`."""
    return parse(path.read_bytes().decode("utf-8", "replace"), str(path))


def parse(text: str, name: str = "the accepted schema") -> schema_pb2.Schema:
    """Parse the accepted schema, which people may edit.

    Args:
        text: Content of the file, as `write` writes it.
        name: What the message of an error calls it.

    Raises:
        ConfigError: It is not a schema in protobuf's text format.
    """
    try:
        return text_format.Parse(text, schema_pb2.Schema())
    except text_format.ParseError as error:
        raise ConfigError(
            f"{name} is not a schema in protobuf's text format: {error}. Restore it from a copy, "
            "or remove it: the next run whose data passes infers a new one."
        ) from None


def write(schema: schema_pb2.Schema, path: str) -> None:
    """Write a schema atomically in protobuf's text format, which TFX imports."""
    write_text(path, text_format.MessageToString(schema))
