"""The disk is full, fails or loses power at every write.

A reader must never see a partly written file, version, artifact or store.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests import python_program
from tests.trials.failing_disk import SCENARIOS


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile `failing_disk.c` to a library for LD_PRELOAD and return its path."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler and LD_PRELOAD")
    target = tmp_path_factory.mktemp("library") / "failing_disk.so"
    source = Path(__file__).with_name("failing_disk.c")
    python_program.ran(compiler, "-O1", "-shared", "-fPIC", "-o", target, source, "-ldl")
    return target


@pytest.mark.parametrize(
    "name",
    # A store makes hundreds of calls, each of which fails once.
    [
        pytest.param(name, marks=pytest.mark.slow if name == "store" else ())
        for name in sorted(SCENARIOS)
    ],
)
def test_no_partial_state_is_read_after_any_failed_write(tmp_path: Path, name: str, library: Path):
    program = (sys.executable, "-m", "tests.trials.failing_disk")
    said = python_program.ran(*program, name, tmp_path, LD_PRELOAD=str(library)).stdout
    failures = int(said.split()[0])
    assert failures >= 20, "the library was not called"
