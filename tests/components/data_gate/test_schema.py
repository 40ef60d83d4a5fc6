"""The accepted schema is a file that people edit; the accepted data is recorded beside it."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from imgpipe.components.common.storage import manifest
from imgpipe.components.data_gate import accepted
from imgpipe.components.model_pusher import versions
from imgpipe.models.errors import ConfigError
from imgpipe.models.settings.data import GateSettings
from imgpipe.models.settings.given import Facts, Given

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


@pytest.fixture
def schema(tmp_path: Path) -> Path:
    file = tmp_path / "schema.pbtxt"
    file.write_text('feature { name: "label" }\n')
    return file


_FIRST = {
    "accepted_schema": "",
    "accepted_data": "{}",
    "accept_changes": 0,
    "data_version": 0,
    "data_digest": "",
}


def _images(count: int) -> pd.DataFrame:
    columns = {"label": "cat", "split": "train", "verdict": ""}
    return pd.DataFrame([{"image_hash": f"{number}", **columns} for number in range(count)])


def _given(data: str, judged_by: accepted.AcceptedState) -> Given:
    return Given(facts=Facts(data_key=data, **judged_by))


def test_accepted_data_is_judged_as_it_was_and_other_data_by_it(schema: Path):
    accepted.write(schema, _images(5), _given("data", _FIRST))
    assert accepted.classes(schema) == {"cat": 5}
    assert accepted.images(schema).equals(_images(5))
    assert accepted.parameters(schema, "data", GateSettings()) == _FIRST
    later = accepted.parameters(schema, "other data", GateSettings())
    last = {"number": 1, "classes": {"cat": 5}}
    assert json.loads(later.pop("accepted_data")) == last
    others = {name: _FIRST[name] for name in ("accept_changes", "data_version", "data_digest")}
    assert later == {"accepted_schema": schema.read_text(), **others}


def test_accepted_data_is_compared_with_the_version_of_then_while_it_is_there(schema: Path):
    def publish(number: int) -> manifest.Version:
        export = schema.parent / "export"
        export.mkdir(exist_ok=True)
        (export / "saved_model.pb").write_text(f"{number}")
        return versions.publish(schema.parent / "model", {"": export}, {})

    def compared(data: str, gate: str, last: manifest.Version | None) -> int:
        return accepted.parameters(schema, data, GateSettings(drift=gate), last)["data_version"]

    first = publish(1)
    judged_by = accepted.parameters(schema, "data", GateSettings(), first)
    assert (judged_by["data_version"], judged_by["data_digest"]) == (1, first.digest)
    accepted.write(schema, _images(5), _given("data", judged_by))
    second = publish(2)
    assert accepted.parameters(schema, "data", GateSettings(), second) == judged_by
    assert compared("other data", "reject", second) == compared("data", "warn", second) == 2
    shutil.rmtree(first.folder)
    assert compared("data", "reject", second) == 2
    assert compared("data", "reject", None) == 0


def test_the_same_change_is_not_accepted_a_second_time_by_itself(schema: Path):
    seen = []
    for data in ("many", "few", "many", "few"):
        seen.append(accepted.parameters(schema, data, GateSettings()) | {"accept_changes": 1})
        accepted.write(schema, _images(len(data)), _given(data, seen[-1]))
    assert seen[1] != seen[3], (
        "TFX would take DataGate from the cache, and nothing would be recorded"
    )
    assert accepted.parameters(schema, "few", GateSettings()) == seen[3]
    assert accepted.parameters(schema, "many", GateSettings())["accept_changes"] == 0


def test_an_edited_schema_judges_the_accepted_data_too(schema: Path):
    accepted.write(schema, _images(5), _given("data", _FIRST))
    schema.write_text('feature { name: "width" }\n')
    assert "width" in accepted.parameters(schema, "data", GateSettings())["accepted_schema"]
    schema.unlink()
    assert accepted.parameters(schema, "data", GateSettings()) == _FIRST


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}"])
def test_without_a_readable_record_data_is_judged_by_the_schema(schema: Path, content: str | None):
    if content is not None:
        schema.with_name("accepted.json").write_text(content)
    found = accepted.parameters(schema, "data", GateSettings())
    assert found == _FIRST | {"accepted_schema": schema.read_text()}
    assert accepted.classes(schema) == {}
