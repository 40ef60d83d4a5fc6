"""The accepted schema is a file that people edit, and a file that is no schema is named."""

from __future__ import annotations

from pathlib import Path

import pytest

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
