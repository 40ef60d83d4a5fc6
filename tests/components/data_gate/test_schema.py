"""The accepted schema is a file that people edit, and that belongs to the data it came from."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgpipe.components.data_gate import origin
from imgpipe.models.errors import ConfigError

pytest.importorskip("tensorflow_metadata")


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00garbage", b"feature {", b"no such field: 3", bytes(range(256))]
)
def test_a_file_that_is_no_schema_is_named_in_the_error(tmp_path: Path, content: bytes):
    from imgpipe.components.data_gate import schema

    path = tmp_path / "schema.pbtxt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"schema\.pbtxt is not a schema in protobuf's text"):
        schema.read(path)


def test_a_written_schema_is_read_back_unchanged(tmp_path: Path):
    from tensorflow_metadata.proto.v0 import schema_pb2

    from imgpipe.components.data_gate import schema

    wanted = schema_pb2.Schema()
    wanted.feature.add(name="label", domain="label")
    schema.write(wanted, str(tmp_path / "schema.pbtxt"))
    assert schema.read(tmp_path / "schema.pbtxt") == wanted


@pytest.fixture
def schema(tmp_path: Path) -> Path:
    """Return the path of a schema with one feature."""
    file = tmp_path / "schema.pbtxt"
    file.write_text('feature { name: "label" }\n')
    return file


def test_a_schema_belongs_to_the_data_it_was_inferred_from_until_it_is_edited(schema: Path):
    origin.write(schema, "data")
    assert origin.is_from(schema, "data")
    assert not origin.is_from(schema, "other data")
    schema.write_text('feature { name: "width" }\n')
    assert not origin.is_from(schema, "data")


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}"])
def test_without_a_readable_origin_file_a_schema_is_from_no_data(schema: Path, content: str | None):
    if content is not None:
        schema.with_suffix(".origin.json").write_text(content)
    assert not origin.is_from(schema, "data")
