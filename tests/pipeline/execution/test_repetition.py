"""Tests of which earlier run is considered for repeating its outcome."""

from __future__ import annotations

import os

import pytest

from imgpipe.models.files import source_code
from imgpipe.pipeline.configuration.config import Config
from imgpipe.pipeline.definition.plan import settings_key
from imgpipe.pipeline.execution import repetition
from imgpipe.pipeline.output import past_run
from imgpipe.pipeline.output.output_folder import OutputFolder
from imgpipe.pipeline.results import Run
from tests.pipeline.past_runs import leave


@pytest.fixture
def config(tmp_path):
    """Return the configuration of a run with its own output folder and source."""
    return Config(run={"out": str(tmp_path / "out")}, data={"source": str(tmp_path / "photos")})


def ended(config, name, changed):
    """Write the folder of a finished run, whose record was modified at `changed` seconds."""
    folder = leave(config.places.out, name, artifacts={})
    run = past_run.read(folder)
    repetition.remember(Run(folder, run.summary, exit_code=0), settings_key(config), "outcome")
    os.utime(folder / repetition.FILE, (changed, changed))
    return folder


def _candidate(config):
    run = repetition.candidate(OutputFolder(config.places.out), settings_key(config))
    return run and run.folder


def test_the_last_run_is_the_candidate_even_if_the_clock_was_set_back(config):
    ended(config, "20260101-120000", changed=2_000)
    last = ended(config, "20260101-120000-2", changed=1_000)
    assert _candidate(config) == last


def test_no_run_is_repeated_after_another_one_that_was_refused(config):
    ended(config, "20260101-120000", 1)
    refused = config.places.out / "runs" / "20260101-120001"
    refused.mkdir()
    (refused / "config.toml").write_text("")
    assert _candidate(config) is None


def test_a_run_during_which_another_version_was_installed_is_not_repeated(config, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr(source_code, "fingerprint", lambda: "code of the old version")
        at_start = settings_key(config)
    folder = ended(config, "20260101-120000", 1)
    run = past_run.read(folder)
    repetition.remember(Run(folder, run.summary, exit_code=0), at_start, "outcome")
    assert _candidate(config) is None


def test_a_run_with_other_settings_or_files_is_no_candidate(config):
    assert _candidate(config) is None
    last = ended(config, "20260101-120001", 1)
    other = Config(run=config.run, data=config.data, evaluate={"threshold": 0.5})
    assert _candidate(other) is None
    assert _candidate(config) == last
    text = (last / "summary.json").read_text()
    (last / "summary.json").write_text(text.replace("a sentence", "another sentence"))
    assert _candidate(config) is None


def test_a_failed_run_and_one_during_which_another_version_was_published_are_not_repeated(config):
    folder = ended(config, "20260101-120000", 1)
    (folder / repetition.FILE).unlink()
    summary = past_run.read(folder).summary
    repetition.remember(Run(folder, summary, exit_code=1), settings_key(config), "outcome")
    assert _candidate(config) is None
    summary["push"]["refused_by"] = ["other_version"]
    repetition.remember(Run(folder, summary, exit_code=3), settings_key(config), "outcome")
    assert _candidate(config) is None
