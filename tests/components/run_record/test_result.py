"""The result of a run, read from the artifacts that `collect.REPORTED` names, and its identity."""

import json
import re
from pathlib import Path

from imgpipe.components.common.image_row import ImageFinding
from imgpipe.components.image_evaluator.decision import Decision
from imgpipe.components.run_record import run_folder
from imgpipe.components.run_record.collect import REPORTED, collect
from imgpipe.components.run_record.result import Result, new, of_settings, read
from imgpipe.models.settings.given import Facts, Given
from tests import image_tables
from tests.declared import made
from tests.run_results import history, result


def test_the_file_of_each_artifact_is_a_part_and_none_where_it_is_missing(tmp_path: Path):
    # The bank is left out, because its part stands for the features beside them.
    rows = {name: row for name, row in REPORTED.items() if row.file and name != "bank"}
    contents = {"model_run": history(), "model_blessing": made(Decision, threshold=0.9)}
    for name, row in rows.items():
        (tmp_path / name).mkdir()
        content = contents.get(name, {"of": name})
        (tmp_path / name / row.file).write_text(json.dumps(content))
    why = (ImageFinding("blurry", "no sharp edge"),)
    listed = [image_tables.row("a.jpg", findings=why), image_tables.row("b.jpg")]
    image_tables.write(tmp_path / "quarantine", listed)
    given = Given(facts=Facts(vocabulary=("cat", "dog")))
    found, answers = collect({name: str(tmp_path / name) for name in rows}, given)
    assert [row["path"] for row in found["rejected"]] == ["a.jpg"]
    assert found["training"] == history()
    assert found["gate"] == contents["model_blessing"]
    assert found["push"] == {"of": "pushed_model"}
    assert answers is None, "there is no feature bank"
    assert collect({}, given) == (new(**of_settings(given)), None)


def test_a_new_result_has_all_parts_and_can_be_read():
    assert new().keys() == Result.__annotations__.keys()
    for made_up in (new(), result()):
        assert read(json.loads(json.dumps(made_up))) == made_up


def test_the_start_of_a_run_is_read_back(tmp_path):
    run_folder.note_start(tmp_path, ["/opt/venv/bin/imgpipe", "run", "my photos"])
    found = run_folder.read_identity(str(tmp_path))
    assert found["command"] == "imgpipe run 'my photos'"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}", found["date"])
    (tmp_path / run_folder.IDENTITY).unlink()
    assert run_folder.read_identity(str(tmp_path))["command"] == ""


def test_the_arguments_of_another_program_are_not_written(tmp_path):
    run_folder.note_start(tmp_path, ["train.py", "--api-key", "SECRET"])
    assert "SECRET" not in (tmp_path / run_folder.IDENTITY).read_text()
    assert run_folder.read_identity(str(tmp_path))["command"] == ""
