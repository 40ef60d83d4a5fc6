"""The disk is full, fails or loses power at every write.

A reader must never see a partly written file, version, artifact or store.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trials.failing_disk import SCENARIOS

_SECONDS = 240


def compiled(name: str, folder: Path) -> Path:
    """Compile `<name>.c` beside this file to a library for LD_PRELOAD and return its path."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler and LD_PRELOAD")
    target = folder / f"{name}.so"
    source = Path(__file__).with_name(f"{name}.c")
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(target), str(source), "-ldl"]
    subprocess.run(command, check=True, timeout=_SECONDS)
    return target


@pytest.mark.parametrize(
    "name",
    # A store makes hundreds of calls, each of which fails once.
    [
        pytest.param(name, marks=pytest.mark.slow if name == "store" else ())
        for name in sorted(SCENARIOS)
    ],
)
def test_no_partial_state_is_read_after_any_failed_write(tmp_path: Path, name: str):
    library = compiled("failing_disk", tmp_path)
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
