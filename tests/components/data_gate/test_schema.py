"""The accepted schema is a file that people edit; what is no schema is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgpipe.models.errors import ConfigError

pytest.importorskip("tensorflow_metadata")


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00garbage", b"feature {", b"no such field: 3", bytes(range(256))]
)
def test_what_is_no_schema_is_named_with_the_way_on(tmp_path: Path, content: bytes):
    from imgpipe.components.data_gate import schema

    path = tmp_path / "schema.pbtxt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"schema\.pbtxt is not a schema in protobuf's text"):
        schema.read(path)


def test_what_was_written_is_read_again(tmp_path: Path):
    from tensorflow_metadata.proto.v0 import schema_pb2

    from imgpipe.components.data_gate import schema

    wanted = schema_pb2.Schema()
    wanted.feature.add(name="label", domain="label")
    schema.write(wanted, str(tmp_path / "schema.pbtxt"))
    assert schema.read(tmp_path / "schema.pbtxt") == wanted
