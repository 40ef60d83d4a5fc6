"""A disk that is full, fails or loses its power at every write: nothing half is ever read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trials.failing_disk import SCENARIOS

SOURCE = Path(__file__).with_name("failing_disk.c")
_SECONDS = 240


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled library of ``failing_disk.c``."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler and LD_PRELOAD")
    target = tmp_path_factory.mktemp("library") / "failing_disk.so"
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(target), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True, timeout=_SECONDS)
    return target


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_every_write_may_fail(library: Path, tmp_path: Path, name: str):
    result = subprocess.run(
        [sys.executable, "-m", "tests.trials.failing_disk", name, str(tmp_path)],
        env={**os.environ, "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    failures = int(result.stdout.split()[0])
    assert failures >= 20, "the library was not called"
