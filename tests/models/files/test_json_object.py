"""Tests of reading the JSON files of a run, of which a damaged one gives a clear error."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgpipe.models.files import json_object


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "Expecting value"),
        (b"[1]", "expected a JSON object, received list"),
        (b'{"a": ' + b"[" * 100_000, "nested too deeply"),
        (b"\xff{}", "can't decode byte"),
        (b'{"a": ' + b"9" * 5000 + b"}", "integer string conversion"),
    ],
)
def test_anything_but_a_json_object_is_a_value_error(
    tmp_path: Path, content: bytes, words: str
) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        json_object.read(tmp_path / "x.json")
