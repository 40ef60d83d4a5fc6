"""Tests of what commands find of past runs after their output folder was moved or copied."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from imgpipe.pipeline.commands import review
from imgpipe.pipeline.output.output_folder import OutputFolder
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
    [run] = OutputFolder(moved).runs
    assert run.artifact("ImageFilter", "examples") == str(moved / recorded.relative_to(former))
    assert run.artifact("FeatureBank", "features") == ""


def test_an_artifact_outside_of_the_output_folder_is_found_as_long_as_it_exists(
    tmp_path: Path,
) -> None:
    kept = tmp_path / "elsewhere" / "examples" / "7"
    kept.mkdir(parents=True)
    elsewhere = {
        "ImageFilter": {"examples": str(kept)},
        "FeatureBank": {"features": "/removed/features/8"},
    }
    leave(tmp_path / "out", "20260101-100000", artifacts=elsewhere)
    [run] = OutputFolder(tmp_path / "out").runs
    assert run.artifact("ImageFilter", "examples") == str(kept)
    assert run.artifact("FeatureBank", "features") == ""


def test_the_next_commands_of_a_moved_run_name_where_it_is_now(tmp_path: Path) -> None:
    former, moved = tmp_path / "out", tmp_path / "moved"
    leave(former, "20260101-100000", version=3)
    leave(former, "20260102-100000", status="not_blessed", correct=16)
    former.rename(moved)
    published, refused = (
        {command["purpose"]: command["command"] for command in run.next_commands}
        for run in OutputFolder(moved).runs
    )
    assert published["use"] == f"imgpipe serve {moved} --model n"
    assert refused["look"] == f"imgpipe open {moved}"
    config = moved / "runs" / "20260102-100000" / "config.toml"
    assert refused["publish"] == (
        f"imgpipe run --config {config} --out {moved} --set evaluate.threshold=0.8"
    )


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
    prepared = review.prepare(review.run_to_review(copy), None)
    assert prepared.decisions.file == tmp_path / expected
