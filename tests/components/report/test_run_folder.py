"""What the tasks of a run on Kubeflow leave for its page."""

from __future__ import annotations

import json
from pathlib import Path

from imgpipe.components.report import run_folder
from imgpipe.components.report.run_folder import RunFolder


def _plan(folder: Path, threshold: float) -> Path:
    folder.mkdir()
    values = {"report_settings": json.dumps({"threshold": threshold})}
    (folder / "plan.json").write_text(json.dumps(values))
    return folder


def test_the_settings_are_those_of_the_run(tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    assert folder.settings() == ""
    folder.leave({run_folder.shown("Plan", "plan"): _plan(tmp_path / "plan", 0.75)})
    assert json.loads(folder.settings()) == {"threshold": 0.75}
    assert folder.artifacts() == {}, "the page has no section for the plan"


def test_what_is_there_already_is_kept(tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    folder.leave({run_folder.PLAN: _plan(tmp_path / "first", 0.5)})
    folder.leave({run_folder.PLAN: _plan(tmp_path / "second", 0.9)})
    assert json.loads(folder.settings()) == {"threshold": 0.5}
