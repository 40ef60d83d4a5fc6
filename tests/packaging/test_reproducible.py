"""The distributions have the same bytes whoever builds them, and an index would take them."""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
from pathlib import Path

import pytest

from imgpipe import __version__
from tests.conftest import REPOSITORY

from .conftest import build, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]


def _everything(project: Path, output: Path) -> dict[str, bytes]:
    """Build all distributions of a folder; return their bytes by name."""
    build(project, output, "sdist", "wheel")
    build(project / "packaging" / "client", output, "wheel")
    return {path.name: path.read_bytes() for path in output.iterdir()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of all distributions."""
    folder = tmp_path_factory.mktemp("built")
    _everything(REPOSITORY, folder)
    return folder


def test_another_checkout_with_another_umask_gives_the_same_bytes(
    built: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    left_out = shutil.ignore_patterns(".?*", "__pycache__", "dist", "site")
    shutil.copytree(REPOSITORY, copy, symlinks=True, ignore=left_out, copy_function=shutil.copy)
    shutil.copyfile(REPOSITORY / ".gitignore", copy / ".gitignore")  # which hatchling reads
    for path in copy.rglob("*"):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o700)
    previous = os.umask(0o077)
    try:
        again = _everything(copy, tmp_path / "again")
    finally:
        os.umask(previous)
    assert len(again) == 3
    for name, content in again.items():
        assert content == (built / name).read_bytes(), name


def test_the_source_distribution_builds_the_same_wheel(built: Path, tmp_path: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        archive.extractall(tmp_path, filter="data")
    again = build(tmp_path / f"imgpipe-{__version__}", tmp_path / "again", "wheel")
    assert again.read_bytes() == (built / again.name).read_bytes()


def test_an_index_would_take_the_distributions(built: Path) -> None:
    said = run(sys.executable, "-m", "twine", "check", "--strict", *built.iterdir(), cwd=built)
    assert said.count("PASSED") == 3, said
