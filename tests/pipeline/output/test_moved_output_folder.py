"""Tests of the artifacts of past runs after their output folder was moved."""

from __future__ import annotations

from pathlib import Path

from imgpipe.pipeline.output import past_runs
from tests.pipeline.past_runs import leave


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
