"""Tests that a full or Latin-1 standard output does not change a command's outcome."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import python_program
from tests.images import folder_of
from tests.pipeline.past_runs import leave

_COMMAND = (sys.executable, "-P", "-m", "imgpipe.pipeline.cli")


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


@pytest.mark.parametrize("script", ['"$@" | true', '"$@" >/dev/full'])
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
