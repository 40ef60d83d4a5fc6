"""The map that `make lint` prints: each file has one capability, and no pattern is left over."""

import tomllib
from fnmatch import fnmatch

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
