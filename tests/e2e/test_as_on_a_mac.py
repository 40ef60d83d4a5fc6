"""The pipeline without fork, without `/proc` and what else only Linux has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_run_and_its_model_need_nothing_that_only_linux_has(drawn: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.e2e.as_on_a_mac", drawn, tmp_path / "out"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stdout + done.stderr
    system, blessed, label = done.stdout.splitlines()[-1].split()
    assert (system, blessed) == ("Darwin", "True")
    assert label in {"paper", "rock", "scissors"}
