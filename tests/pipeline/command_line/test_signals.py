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
    ("number", "exit_code", "sentence"),
    [
        (signal.SIGINT, 130, "interrupted by Ctrl-C"),
        (signal.SIGTERM, 143, "stopped by SIGTERM"),
    ],
)
def test_a_signal_leaves_a_summary_of_a_run_and_no_temporary_files(
    tmp_path: Path, number: signal.Signals, exit_code: int, sentence: str
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
    while not list(out.glob("**/ImageExampleGen/*")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == exit_code, printed
    assert f"{sentence}. Finished work is kept" in printed
    assert "Traceback" not in printed
    summary = json.loads(file.read_text())
    assert sentence in summary["verdict"]
    assert summary["status"] == "interrupted"
    assert not list(out.glob("runs/*/tmp")), "also what a killed run left is removed"


@pytest.mark.parametrize(
    ("cleaning_up", "said"),
    [("pass", "imgpipe: stopped by SIGTERM\n"), ("os.kill(os.getpid(), signal.SIGTERM)", "")],
    ids=["", "a second one"],
)
def test_sigterm_ends_another_command_with_a_message_and_a_second_one_at_once(
    cleaning_up: str, said: str
):
    program = (
        "import os, signal, sys, time\n"
        "from imgpipe.pipeline import cli\n"
        "from imgpipe.pipeline import machine_checks\n"
        "def check():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        time.sleep(9)\n"
        "    finally:\n"
        f"        {cleaning_up}\n"
        "machine_checks.CHECKS = (check,)\n"
        "sys.argv = ['imgpipe', 'doctor']\n"
        "cli.main()\n"
    )
    done = python_program.ended(program)
    assert (done.returncode, done.stderr) == (143, said)
