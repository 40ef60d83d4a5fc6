"""The identity of a run: its start is written once, and read when the page is drawn."""

import re

from imgpipe.components.run_record import run_folder


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
