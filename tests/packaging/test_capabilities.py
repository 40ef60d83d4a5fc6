"""The map that `make lint` prints: each file has one capability, and no pattern is left over."""

import runpy
import shutil
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests import python_program
from tests.conftest import REPOSITORY

_PROGRAM = REPOSITORY / "packaging" / "capabilities.py"
_FOLDERS = ("components", "docs", "models", "packaging", "pipeline", "serving", "src", "tests")
_PATHS = [
    str(path.relative_to(REPOSITORY))
    for folder in _FOLDERS
    for path in (REPOSITORY / folder).rglob("*.py")
]


def test_every_pattern_fits_a_file() -> None:
    plain = [path.removeprefix("tests/").replace("test_", "") for path in _PATHS]
    table = tomllib.loads(_PROGRAM.with_suffix(".toml").read_text())
    left_over = [
        pattern
        for patterns in table.values()
        for pattern in patterns
        if not any(fnmatch(path, pattern) for path in plain)
    ]
    assert left_over == []


def test_a_file_and_its_test_have_one_capability() -> None:
    capability = runpy.run_path(str(_PROGRAM))["capability"]
    assert capability("models/head/certainty.py") == "the head"
    assert capability("tests/models/head/test_certainty.py") == "the head"
    assert capability("serving/client/channel.py") == "the client"
    assert capability("serving/server/server.py") == "the server"


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_map_has_all_lines_and_the_change(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        author = ["-c", "user.name=A", "-c", "user.email=a@example.com"]
        python_program.ran("git", *author, "-C", tmp_path, *arguments)

    (tmp_path / "packaging").mkdir()
    for part in (_PROGRAM, _PROGRAM.with_suffix(".toml")):
        (tmp_path / "packaging" / part.name).write_bytes(part.read_bytes())
    head = tmp_path / "models" / "head"
    head.mkdir(parents=True)
    (head / "solved.py").write_text("a = 1\nb = 2\n")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    git("tag", "v1")
    (head / "solved.py").write_text("a = 1\nb = 2\nc = 3\nd = 4\n")

    printed = python_program.ran(sys.executable, tmp_path / "packaging" / _PROGRAM.name).stdout
    rows = {line[:52].strip(): line[52:].split() for line in printed.splitlines()}

    assert rows["the head"] == ["4", "+2", "0"]
    assert rows["the client"] == ["0", "0"]
    assert printed.endswith("Change since v1.\n")
