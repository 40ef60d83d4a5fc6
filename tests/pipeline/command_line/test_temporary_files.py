"""Tests that temporary files of killed runs and commands are removed by the next one."""

import concurrent.futures
import os
import tempfile
import time
from pathlib import Path

import pytest

from imgpipe.models.errors import ResourceError
from imgpipe.pipeline.command_line import command_process
from imgpipe.pipeline.command_line import console as consoles
from imgpipe.pipeline.output.output_folder import OutputFolder
from tests import python_program


def test_files_of_killed_writers_are_removed_and_nothing_else(tmp_path: Path):
    folders = ("", "runs/1", "schema/accepted/ab")
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "kept").write_text("")
    program = (
        "import contextlib, os, sys\n"
        "from pathlib import Path\n"
        "from imgpipe.models.files.atomic_write import writing\n"
        "with contextlib.ExitStack() as stack:\n"
        "    for folder in sys.argv[1:]:\n"
        "        stack.enter_context(writing(Path(folder) / 'file')).write_text('half')\n"
        "    os._exit(9)\n"
    )
    places = [tmp_path / folder for folder in folders]
    assert python_program.ended(program, *places).returncode == 9
    assert all(list(place.glob(".tmp-*")) for place in places)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / ".tmp-another-publisher").mkdir()
    (tmp_path / "runs" / "1" / "tmp").mkdir()
    OutputFolder(tmp_path).sweep()
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"kept"}
    assert (tmp_path / "model" / ".tmp-another-publisher").is_dir()
    assert not (tmp_path / "runs" / "1" / "tmp").exists()


def test_commands_in_several_threads_leave_the_process_as_it_was(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TMPDIR", raising=False)
    before = tempfile.gettempdir(), Path("/proc/self/fd/1").readlink()

    def command(number: int) -> None:
        with consoles.quiet():
            time.sleep(0.02 * (3 - number))  # the first to begin is the last to end
            assert Path(tempfile.gettempdir()).is_dir()

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        list(pool.map(command, range(3)))
    assert (tempfile.gettempdir(), Path("/proc/self/fd/1").readlink()) == before
    assert "TMPDIR" not in os.environ


def test_no_folder_for_temporary_files_is_an_error_with_advice(monkeypatch: pytest.MonkeyPatch):
    """As on a full disk, and in a container whose file system is read-only."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc/none"])
    with pytest.raises(ResourceError, match="TMPDIR"), command_process.temporary_folder():
        pass
