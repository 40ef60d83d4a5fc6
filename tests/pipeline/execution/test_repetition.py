"""Tests of which earlier run is considered for repeating its outcome."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imgpipe.pipeline.execution import repetition
from imgpipe.pipeline.output import past_run
from imgpipe.pipeline.output.output_folder import OutputFolder
from imgpipe.pipeline.results import Run
from tests.pipeline.past_runs import leave


def _ended(out: Path, name: str, changed: int) -> Path:
    """Write the folder of a finished run, whose record was modified at `changed` seconds."""
    folder = leave(out, name, artifacts={})
    repetition.remember(Run(folder, past_run.read(folder).summary), "outcome")
    os.utime(folder / repetition.FILE, (changed, changed))
    return folder


def _candidate(out: Path, more: str = "") -> Path | None:
    settings = next(out.glob("runs/*/config.toml"), Path("/dev/null")).read_text()
    run = repetition.candidate(OutputFolder(out), settings + more)
    return run and run.folder


def test_the_last_run_is_the_candidate_even_if_the_clock_was_set_back(tmp_path: Path):
    assert _candidate(tmp_path) is None
    _ended(tmp_path, "20260101-120000", changed=2_000)
    last = _ended(tmp_path, "20260101-120000-2", changed=1_000)
    assert _candidate(tmp_path) == last
    assert _candidate(tmp_path, "# other settings") is None
    summary = last / "summary.json"
    summary.write_text(summary.read_text() + "\n")
    assert _candidate(tmp_path) is None, "an edited summary is no outcome"


def test_no_run_is_repeated_after_another_one_that_was_refused(tmp_path: Path):
    _ended(tmp_path, "20260101-120000", 1)
    refused = tmp_path / "runs" / "20260101-120001"
    refused.mkdir()
    (refused / "config.toml").write_text(
        (tmp_path / "runs/20260101-120000/config.toml").read_text()
    )
    assert _candidate(tmp_path) is None


@pytest.mark.parametrize(("code", "refused_by"), [(1, []), (3, ["other_version"])])
def test_a_failed_run_and_one_during_which_another_version_was_published_are_not_repeated(
    tmp_path: Path, code: int, refused_by: list[str]
):
    folder = leave(tmp_path, "20260101-120000", artifacts={})
    summary = past_run.read(folder).summary
    summary["push"]["refused_by"] = refused_by
    repetition.remember(Run(folder, summary, exit_code=code), "outcome")
    assert _candidate(tmp_path) is None


def test_a_run_with_another_key_or_whose_artifacts_are_gone_is_not_repeated(tmp_path: Path):
    run = past_run.read(_ended(tmp_path, "20260101-120000", 1))
    for key in ("another", "outcome"):
        assert repetition.outcome(run, key, tmp_path / "model", began=0.0) is None
