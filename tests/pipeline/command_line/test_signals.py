"""Tests that Ctrl-C and SIGTERM end a command with a message, and a run with a summary too."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import python_program
from tests.images import folder_of

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
        "from imgpipe.pipeline.command_line import signals\n"
        "def hook(event, arguments):\n"
        "    if event == 'import' and arguments[0].endswith('multiarray_umath') and arguments[1]:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        print('in the import')\n"
        "signals.install()\n"
        "sys.addaudithook(hook)\n"
        "try:\n"
        "    import numpy\n"
        "except signals.Stopped:\n"
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
        ("imgpipe.pipeline.command_line.signals", "from imgpipe.pipeline import cli\n"),
        ("imgpipe.pipeline", _MAIN),
        ("imgpipe.pipeline.command_line.signals", _MAIN),
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
