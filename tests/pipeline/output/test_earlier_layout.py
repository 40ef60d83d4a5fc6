"""An output folder of an earlier layout: listed, served, and computed again in one new run."""

import json
from pathlib import Path

import pytest

from imgpipe.components.common.storage import manifest
from imgpipe.models.errors import ResourceError
from imgpipe.pipeline.commands import rollback
from imgpipe.pipeline.output import lookup
from imgpipe.pipeline.output.output_folder import OutputFolder
from tests.command import answered, ran
from tests.pipeline import past_runs

RUN = "20250101-100000"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return a folder with two versions, as a run left it when a run was told in two files."""
    past_runs.publish_two(tmp_path)
    for version in (tmp_path / "model").glob("[12]/manifest.json"):
        version.write_text(json.dumps(json.loads(version.read_text()) | {"schema": 1}))
    folder = past_runs.leave(tmp_path, RUN, status="", artifacts={})
    (folder / "identity.json").write_text('{"date": "2025-01-01 10:00:00 +0000", "command": ""}')
    (folder / "summary.json").write_text('{"schema": 2, "status": "blessed"}')
    (folder / "facts.json").write_text('{"settings": {"vocabulary": ["cat", "dog"]}}')
    (folder / "report.html").write_text("<p>page")
    (tmp_path / "schema").mkdir()
    for name in ("metadata.sqlite", "schema/accepted.json", "schema/schema.pbtxt"):
        (tmp_path / name).write_text("{}")
    return tmp_path


def test_its_runs_are_listed_and_refused_in_one_sentence(out: Path):
    assert [row["status"] for row in answered("runs", out)["runs"]] == ["earlier_layout"]
    assert "of an earlier layout" in ran("runs", out).stdout
    for path in (out / "runs" / RUN, out):
        with pytest.raises(ResourceError, match=r"result\.json \(the run is of an earlier"):
            lookup.run(path)


def test_its_versions_count_as_none_and_are_served_and_rolled_back_to(out: Path):
    assert lookup.model(out).version == 2
    assert manifest.baseline_for(out / "model", "another run") is None
    assert "version 2 is of an earlier layout" in manifest.why_no_baseline(out / "model")
    rollback.rollback(out / "model", 1)
    assert lookup.model(out).version == 3
    assert manifest.baseline_for(out / "model", "another run") is None, "it is the same model"


def test_a_new_run_moves_what_was_computed_aside_once(
    out: Path, capsys: pytest.CaptureFixture[str]
):
    for number in (1, 2):
        with OutputFolder(out).begin() as folder:
            folder.new_run("")
        assert ("are of an earlier layout: they stay" in capsys.readouterr().err) == (number == 1)
    aside = out / f"earlier-layout-{RUN}"
    assert (aside / "metadata.sqlite").is_file() and (aside / "accepted.json").is_file()
    assert (out / "schema/schema.pbtxt").is_file() and not (out / "metadata.sqlite").exists()
    assert (out / "runs" / RUN / "report.html").is_file() and (out / "model" / "2").is_dir()
    states = [run.status for run in OutputFolder(out).runs]
    assert states == ["earlier_layout", "killed", "killed"]
