"""Tests that the commands about past runs name damaged files in the folder of a run."""

import json
from pathlib import Path
from typing import Any

import pytest

from imgpipe.models.errors import ResourceError
from imgpipe.pipeline.output import lookup
from imgpipe.pipeline.output.output_folder import OutputFolder
from tests import run_results
from tests.command import answered, ran
from tests.pipeline.past_runs import FIRST, SECOND, leave


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return an output folder with two runs, whose artifacts are recorded but were removed."""
    uris = {"ImageEvaluator": {"predictions": str(tmp_path / "gone")}}
    leave(tmp_path, FIRST, version=1, artifacts=uris)
    leave(tmp_path, SECOND, version=2, artifacts=uris)
    return tmp_path


def damage(out: Path, file: str, content: bytes) -> Path:
    """Replace a file of the second run; return the folder of that run."""
    (out / "runs" / SECOND / file).write_bytes(content)
    return out / "runs" / SECOND


def _result(**changes: dict[str, Any]) -> bytes:
    result: Any = run_results.result()
    for part, values in changes.items():
        result[part] |= values
    return json.dumps(result).encode()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"status": ', "Expecting value"),
        (b'{"schema": 4, "status": "fine"}', "status: input should be 'blessed'"),
        (b'{"schema": 4, "status": "blessed"}', "verdict: field required"),
        (_result(gate={"threshold": "high"}), r"gate\.threshold: input should be"),
        (_result(push={"version": "two"}), r"push\.version"),
    ],
)
def test_a_damaged_result_is_listed_by_runs_and_refused_elsewhere(
    out: Path, content: bytes, words: str
):
    folder = damage(out, "result.json", content)
    listed = ran("runs", out)
    assert f"its result cannot be read: {folder / 'result.json'}" in listed.stdout
    answer = answered("runs", out)
    assert [row["status"] for row in answer["runs"]] == ["blessed", "damaged"]
    for path in (folder, out / "model" / "2"):
        with pytest.raises(ResourceError, match=rf"cannot read .*result\.json \({words}"):
            lookup.run(path)
    assert lookup.run(out / "model" / "1").version == 1


def test_a_damaged_list_of_artifacts_is_treated_as_not_recorded(out: Path):
    folder = damage(out, "artifacts.json", b'{"ImageEvaluator": "here"}')
    assert lookup.run(folder).artifacts is None
    compared = ran("compare", folder, out / "runs" / FIRST)
    assert "has no predictions: it made or recorded none" in compared.stdout
    assert OutputFolder(out).unused(1) == []


def test_a_configuration_with_a_date_can_be_compared(out: Path):
    damage(out, "config.toml", b"[course]\nepochs = 2026-01-31\n")
    (change,) = answered("compare", out)["configuration"]
    assert (change["name"], change["after"]) == ("course.epochs", "2026-01-31")
