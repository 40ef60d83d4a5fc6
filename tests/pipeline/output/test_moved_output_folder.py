"""Tests of what commands find of past runs after their output folder was moved or copied."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from imgpipe.components.data_gate import schema as schemas
from imgpipe.pipeline.application import app
from imgpipe.pipeline.commands import review
from imgpipe.pipeline.output import past_runs
from tests.pipeline.past_runs import leave
from tests.pipeline.review import run_to_review


def test_the_artifacts_of_a_moved_output_folder_are_found(tmp_path: Path) -> None:
    """Another project at the former place has an artifact of the same number."""
    former, moved = tmp_path / "out", tmp_path / "moved"
    recorded = former / "artifacts" / "ImageFilter" / "examples" / "7"
    recorded.mkdir(parents=True)
    artifacts = {"ImageFilter": {"examples": str(recorded)}}
    leave(former, "20260101-100000", artifacts=artifacts)
    former.rename(moved)
    recorded.mkdir(parents=True)
    [run] = past_runs.read(moved)
    assert run.artifact("ImageFilter", "examples") == str(moved / recorded.relative_to(former))
    assert run.artifact("FeatureBank", "features") == ""


def test_artifacts_outside_of_the_output_folder_are_those_that_were_recorded(
    tmp_path: Path,
) -> None:
    elsewhere = {
        "ImageFilter": {"examples": "gs://bucket/examples/7"},
        "FeatureBank": {"features": "/removed/features/8"},
    }
    leave(tmp_path, "20260101-100000", artifacts=elsewhere)
    [run] = past_runs.read(tmp_path)
    assert run.artifact("ImageFilter", "examples") == "gs://bucket/examples/7"
    assert run.artifact("FeatureBank", "features") == "/removed/features/8"


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        pytest.param("out/decisions.toml", "copy/decisions.toml", id="in the output folder"),
        pytest.param("decisions.toml", "decisions.toml", id="elsewhere"),
        pytest.param("", "copy/overrides.toml", id="not named"),
    ],
)
def test_decisions_about_a_copy_are_not_written_into_the_original(
    tmp_path: Path, named: str, expected: str
) -> None:
    setting = f"judge.overrides={json.dumps(str(tmp_path / named) if named else '')}"
    run_to_review.leave(tmp_path / "out", run_to_review.write(tmp_path / "photos"), [setting])
    copy = shutil.copytree(tmp_path / "out", tmp_path / "copy")
    prepared = review.prepare(review.find(copy), None)
    assert prepared.decisions.file == tmp_path / expected


@pytest.mark.filterwarnings("ignore")  # TFX and TFDV warn about their own dependencies
def test_the_schema_of_a_moved_output_folder_is_accepted_by_its_own_statistics(
    tmp_path: Path,
) -> None:
    importlib.import_module("tfx.components")  # must be imported before TFDV
    import pandas as pd
    import tensorflow_data_validation as tfdv

    former, moved = tmp_path / "out", tmp_path / "moved"
    leave(former, "20260101-100000")
    statistics = former / "artifacts/StatisticsGen/statistics/2"
    (statistics / "Split-train").mkdir(parents=True)
    found = tfdv.generate_statistics_from_dataframe(pd.DataFrame({"depth": [1.0, 2.0]}))
    (statistics / "Split-train" / "FeatureStats.pb").write_bytes(found.SerializeToString())
    reason = {"kind": "anomaly", "subject": "depth", "split": "", "expected": "e", "seen": "s"}
    decision = {"statistics": str(statistics), "fingerprint": "f", "vocabulary": ["cat", "dog"]}
    (former / "gate.json").write_text(
        json.dumps({**decision, "reasons": [reason, {**reason, "subject": ""}]})
    )
    former.rename(moved)
    result = CliRunner().invoke(app, ["schema", "accept", str(moved)], catch_exceptions=False)
    assert "accepted: anomaly 'depth'" in result.output
    assert "accepted: anomaly of the whole data set: s" in result.output
    assert [one.name for one in schemas.read(moved / "schema/schema.pbtxt").feature] == ["depth"]
