"""Tests of `imgpipe runs`: the table and the JSON, from the files that runs leave."""

import functools
import json

import pytest

from imgpipe.pipeline.commands import rollback
from imgpipe.pipeline.output.output_folder import OutputFolder
from tests import python_program
from tests.command import answered, ran
from tests.pipeline.past_runs import leave, publish_two
from tests.run_results import decided_by

invoke = functools.partial(ran, "runs")


@pytest.fixture
def out(tmp_path):
    """Return an output folder with six runs, which differ in outcome, data or settings."""
    leave(tmp_path, "20260101-100000", correct=15, version=1)
    leave(tmp_path, "20260102-100000", status="refused", correct=None, images=(40, 38))
    leave(tmp_path, "20260103-100000", status="interrupted", correct=None)
    leave(tmp_path, "20260104-100000", status="not_blessed", correct=17, images=(44, 38))
    leave(tmp_path, "20260105-100000", correct=19, version=2, settings=("course.epochs=33",))
    leave(tmp_path, "20260106-100000", status="")
    return tmp_path


def test_the_table_shows_each_run(out):
    result = invoke(out)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    rows = {line[:10]: line for line in lines}
    assert "blessed       0.750 (0.53–0.89)  80      1        1 min 03 s" in rows["2026-01-01"]
    assert "data refused" in rows["2026-01-02"] and "interrupted" in rows["2026-01-03"]
    assert "not blessed   0.850" in rows["2026-01-04"]
    assert "killed" in rows["2026-01-06"]
    assert f"6 runs in {out}" in result.stdout


def test_the_list_ends_with_the_commands_that_go_on_from_the_newest_run(tmp_path):
    leave(tmp_path, "20260101-100000", status="not_blessed", correct=17)
    lines = invoke(tmp_path).stdout.splitlines()
    config = tmp_path / "runs/20260101-100000/config.toml"
    assert [line.strip().partition(":")[0] for line in lines[-3:]] == [
        "look at the report",
        "try it without publishing it",
        "publish it as it is",
    ]
    assert lines[-3].endswith(f" imgpipe open {tmp_path}/runs/20260101-100000")
    assert lines[-1].endswith(f" imgpipe run --config {config} --set evaluate.threshold=0.85")


def test_runs_writes_json_with_every_field_and_nothing_else(out):
    answer = answered("runs", out / "model", "--last", 2)
    judged, killed = answer["runs"]
    assert (judged["push"]["version"], killed["status"]) == ("2", "killed")
    assert judged["gate"]["decided_by"] == decided_by(19, 20, "validation")
    assert killed["gate"] is None


def test_the_newest_run_is_working_while_the_folder_is_locked(out):
    with OutputFolder(out).locked("busy"):
        states = [row["status"] for row in answered("runs", out)["runs"]]
    assert states[-1] == "working" and "killed" not in states


def test_after_a_rollback_the_model_of_the_newest_version_is_named(out):
    assert answered("runs", out)["newest_version"] is None
    publish_two(out)
    assert "is the newest" not in invoke(out).stdout
    rollback.rollback(out, 1)
    assert "version 3 is the newest, and holds the model of version 1" in invoke(out).stdout
    answer = answered("runs", out)
    assert answer["newest_version"] == {
        "number": 3,
        "path": str(out / "model/3"),
        "rolled_back_to": 1,
    }


def test_what_a_rollback_has_withdrawn_is_marked_with_the_way_back(out):
    publish_two(out)
    rollback.rollback(out, 1)
    assert answered("runs", out)["withdrawn"] == [2]
    listed = invoke(out).stdout
    assert "2, withdrawn" in listed and f"imgpipe rollback {out} --to 2" in listed


def test_a_rollback_that_has_been_done_is_not_proposed_again(tmp_path):
    """The last run made the model of version 1 again, which a rollback had withdrawn."""
    folder = leave(tmp_path, "20260101-100000", status="not_published")
    result = json.loads((folder / "result.json").read_text())
    result["push"] |= {"refused_by": ["rollback"], "withdrawn": "1"}
    (folder / "result.json").write_text(json.dumps(result))
    publish_two(tmp_path)
    assert f"imgpipe rollback {tmp_path} --to 1" in invoke(tmp_path).stdout
    rollback.rollback(tmp_path, 1)
    listed = invoke(tmp_path).stdout
    assert "--to 1" not in listed
    assert f"use the model:       imgpipe serve {tmp_path}" in listed


def test_runs_does_not_import_tensorflow(out):
    imported, _ = python_program.imported("imgpipe", "runs", out)
    assert not {"tensorflow", "tfx", "apache_beam", "keras"} & imported
