"""The distributions have the same bytes whoever builds them, and an index would take them."""

import os
import shutil
import sys
import tarfile
from pathlib import Path

import pytest

from imgpipe import __version__
from tests import python_program
from tests.conftest import REPOSITORY

from .conftest import build, build_all

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]


def test_another_checkout_with_another_umask_gives_the_same_bytes(
    distributions: Path, tmp_path: Path
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
        build_all(copy, tmp_path / "again")
    finally:
        os.umask(previous)
    assert len([*distributions.iterdir()]) == 3
    for file in distributions.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes(), file.name


def test_the_source_distribution_builds_the_same_wheel(
    distributions: Path, wheel: Path, tmp_path: Path
) -> None:
    with tarfile.open(next(distributions.glob("*.tar.gz"))) as archive:
        archive.extractall(tmp_path, filter="data")
    build(tmp_path / f"imgpipe-{__version__}", tmp_path / "again", "wheel")
    assert (tmp_path / "again" / wheel.name).read_bytes() == wheel.read_bytes()


def test_an_index_would_take_the_distributions(distributions: Path) -> None:
    program = (sys.executable, "-m", "twine", "check", "--strict")
    said = python_program.ran(*program, *distributions.iterdir()).stdout
    assert said.count("PASSED") == 3, said
