"""The data from which the accepted schema was inferred is known until somebody edits the schema."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgpipe.components.data_gate import origin


@pytest.fixture
def schema(tmp_path: Path) -> Path:
    """Return the path of a schema with one feature."""
    file = tmp_path / "schema.pbtxt"
    file.write_text('feature { name: "label" }\n')
    return file


def test_a_schema_belongs_to_the_data_it_was_inferred_from(schema: Path):
    origin.write(schema, "data")
    assert origin.is_from(schema, "data")
    assert not origin.is_from(schema, "other data")


def test_an_edited_schema_is_from_no_data(schema: Path):
    origin.write(schema, "data")
    schema.write_text('feature { name: "width" }\n')
    assert not origin.is_from(schema, "data")


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}"])
def test_without_a_readable_origin_file_a_schema_is_from_no_data(schema: Path, content: str | None):
    if content is not None:
        schema.with_suffix(".origin.json").write_text(content)
    assert not origin.is_from(schema, "data")
