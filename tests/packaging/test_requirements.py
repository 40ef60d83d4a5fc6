"""Tests that pip alone can install the locked packages from the exported requirements."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

from .conftest import install, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]


def test_pip_finds_every_requirement_met_by_the_installed_packages(python: Path, tmp_path: Path):
    """Nothing is downloaded, because each requirement is met by a package of the environment."""
    uv = shutil.which("uv") or str(REPOSITORY / ".tools" / "bin" / "uv")
    if not Path(uv).is_file():
        pytest.skip("needs uv, which writes the requirements")
    file = tmp_path / "requirements.txt"
    run("make", "requirements", f"UV={uv}", f"DIST={tmp_path}", cwd=REPOSITORY)
    assert "kfp==" not in file.read_text()

    said = install(python, "--no-deps", "-r", file).splitlines()
    assert len(said) > 200
    assert [line for line in said if not line.startswith("Requirement already satisfied")] == []
