"""The pipeline without fork, without `/proc` and what else only Linux has."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests import python_program
from tests.conftest import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_run_and_its_model_need_nothing_that_only_linux_has(drawn: Path, tmp_path: Path) -> None:
    program = (sys.executable, "-m", "tests.e2e.as_on_a_mac")
    done = python_program.ran(*program, drawn, tmp_path / "out", cwd=REPOSITORY, seconds=580)
    system, blessed, label = done.stdout.splitlines()[-1].split()
    assert (system, blessed) == ("Darwin", "True")
    assert label in {"paper", "rock", "scissors"}
