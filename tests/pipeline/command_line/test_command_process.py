"""The process of a command ends as it should, whatever happens to it.

Ctrl-C and SIGTERM end it with a message, and a run with a summary, too. A closed, full or Latin-1
standard output does not change its outcome. What was killed leaves no temporary files behind the
next run or command.
"""

import concurrent.futures
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from imgpipe.models.errors import ResourceError
from imgpipe.pipeline.command_line import command_process
from imgpipe.pipeline.command_line import console as consoles
from imgpipe.pipeline.output.output_folder import OutputFolder
from tests import python_program
from tests.images import folder_of
from tests.pipeline.past_runs import leave

_COMMAND = (sys.executable, "-P", "-m", "imgpipe.pipeline.cli")


@pytest.mark.parametrize(
    ("number", "after", "exit_code", "sentence"),
    [
        (signal.SIGINT, 0.7, 130, "interrupted by Ctrl-C"),
        (signal.SIGTERM, 1.4, 143, "stopped by SIGTERM"),
    ],
)
def test_a_signal_during_the_imports_of_a_run_leaves_a_summary_and_no_temporary_files(
    tmp_path: Path, number: signal.Signals, after: float, exit_code: int, sentence: str
):
    folder_of(tmp_path / "photos")
    out, file = tmp_path / "out", tmp_path / "summary.json"
    killed = out / "runs" / "of-a-killed-process" / "tmp"
    killed.mkdir(parents=True)
    (killed / "left").touch()
    arguments = ("run", tmp_path / "photos", "--out", out, "--json", file)
    process = subprocess.Popen(
        [*_COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 60
    while not list(out.glob("runs/2*/run.log")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    time.sleep(after)
    process.send_signal(number)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == exit_code, printed
    assert f"{sentence}. Finished work is kept" in printed
    assert "Traceback" not in printed
    summary = json.loads(file.read_text())
    assert sentence in summary["verdict"] and summary["report"] is None
    assert summary["status"] == "interrupted"
    assert not list(out.glob("runs/*/tmp")), "also what a killed run left is removed"


@pytest.mark.parametrize(
    "stop", ["Collected.__del__(None)", "Collected()"], ids=["", "in a destructor"]
)
def test_sigterm_ends_another_command_with_a_message(stop: str):
    """A signal in a destructor is neither lost nor a traceback."""
    program = (
        "import os, signal, sys, time\n"
        "from imgpipe.pipeline import cli\n"
        "from imgpipe.pipeline import machine_checks\n"
        "class Collected:\n"
        "    def __del__(self):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "def check():\n"
        f"    {stop}\n"
        "    time.sleep(9)\n"
        "machine_checks.CHECKS = (check,)\n"
        "sys.argv = ['imgpipe', 'doctor']\n"
        "cli.main()\n"
    )
    done = python_program.ended(program)
    assert (done.returncode, done.stderr) == (143, "imgpipe: stopped by SIGTERM\n")


def test_a_signal_in_the_import_of_an_extension_module_waits_for_its_end():
    """An extension of pybind11 aborts the process when Python code that it calls raises."""
    program = (
        "import os, signal, sys\n"
        "from imgpipe.pipeline.command_line import command_process\n"
        "def hook(event, arguments):\n"
        "    if event == 'import' and arguments[0].endswith('multiarray_umath') and arguments[1]:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        print('in the import')\n"
        "command_process.install()\n"
        "sys.addaudithook(hook)\n"
        "try:\n"
        "    import numpy\n"
        "except command_process.Stopped:\n"
        "    print('numpy._core._multiarray_umath' in sys.modules)\n"
    )
    done = python_program.ended(program)
    assert (done.returncode, done.stdout) == (0, "in the import\nTrue\n")


_DOCTOR = "sys.argv = ['imgpipe', 'doctor']\nfrom imgpipe.pipeline import cli\ncli.main()\n"
_MAIN = "import imgpipe; imgpipe._main()\n"


@pytest.mark.parametrize(
    ("module", "start"),
    [
        ("imgpipe.models.errors", _DOCTOR),
        ("imgpipe.pipeline.command_line.command_process", "from imgpipe.pipeline import cli\n"),
        ("imgpipe.pipeline", _MAIN),
        ("imgpipe.pipeline.command_line.command_process", _MAIN),
    ],
)
def test_ctrl_c_while_the_command_line_is_imported_ends_it_with_a_message(module: str, start: str):
    program = (
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        "            sys.meta_path.remove(self)\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        f"{start}"
    )
    done = python_program.ended(program)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "imgpipe: interrupted by Ctrl-C\n"


def shell(script: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script of bash, in which `"$@"` is imgpipe with the arguments."""
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {script}", "bash", *_COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("script", ['"$@" >&-', '"$@" >&- 2>&-', '"$@" | true', '"$@" >/dev/full'])
def test_an_output_that_cannot_be_written_does_not_change_the_exit_code(script: str):
    done = shell(script, "doctor")
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return an output folder with a run, whose name is not ASCII."""
    leave(tmp_path / "cät", "20260101-100000")
    return tmp_path / "cät"


def test_a_latin_1_output_does_not_change_the_exit_code_and_gets_ascii_json(out: Path):
    done = shell('"$@"', "runs", out, "--json", "-", PYTHONIOENCODING="latin-1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii() and '/c\\u00e4t"' in done.stdout


def test_json_that_cannot_be_written_ends_with_exit_code_5(out: Path):
    done = shell('"$@" >/dev/full', "runs", out, "--json", "-")
    assert done.returncode == 5
    assert "cannot write to standard output: No space left on device." in done.stderr


@pytest.mark.slow
def test_a_report_that_cannot_be_made_does_not_change_the_outcome(tmp_path: Path):
    photos = folder_of(tmp_path / "photos")  # too few for a run, which ends with exit code 4
    program = (
        "import sys\n"
        "from imgpipe.components.report import page\n"
        "from imgpipe.pipeline import cli\n"
        "def broken(*arguments): raise ZeroDivisionError('in a drawing')\n"
        "page.Page.html = broken\n"
        "sys.argv = ['imgpipe', *sys.argv[1:]]\n"
        "cli.main()\n"
    )
    done = python_program.ended(program, "run", photos, "--out", tmp_path / "out")
    assert done.returncode == 4, done.stderr
    assert "failed in" not in done.stdout, "the reason is the data's, not the report's"
    assert "The report could not be written: ZeroDivisionError: in a drawing" in done.stdout
    assert len(list((tmp_path / "out").glob("runs/*/result.json"))) == 1
    assert "Traceback" not in done.stdout + done.stderr


def test_files_of_killed_writers_are_removed_and_nothing_else(tmp_path: Path):
    folders = ("", "artifacts/DataGate/blessing", "runs/1", "schema/accepted/ab")
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
