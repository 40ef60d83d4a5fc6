"""Prints the lines of Python that each capability has, and the change since the last release.

Usage: ``python packaging/capabilities.py [COMMIT]``. The capabilities and their files are the table
`capabilities.toml`. The change is counted from the last tag, or from the commit that is given, as
git counts it; there is none to show where neither exists. Benchmarks belong to no capability.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_TABLE = Path(__file__).with_name("capabilities.toml")


def capability(path: str) -> str:
    """Return the capability of a file.

    Args:
        path: Path of the file below the project's folder.

    Raises:
        LookupError: No pattern fits the path.
    """
    plain = path.removeprefix("tests/").replace("test_", "")
    for name, patterns in tomllib.loads(_TABLE.read_text()).items():
        if any(fnmatch(plain, pattern) for pattern in patterns):
            return str(name)
    raise LookupError(f"no capability in {_TABLE.name} has a pattern for {path}")


def _git(*arguments: str) -> str:
    """Return what a command of git prints, or an empty text where it fails."""
    command = ["git", "-C", str(_ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _changes(since: str) -> Counter[tuple[str, bool]]:
    """Return the lines that came and went since a commit, by capability and whether of tests."""
    changes: Counter[tuple[str, bool]] = Counter()
    for line in _git("diff", "--numstat", "--no-renames", since, "--", "*.py").splitlines():
        added, removed, path = line.split("\t")
        if not path.startswith("benchmarks/"):
            changes[capability(path), path.startswith("tests/")] += int(added) - int(removed)
    return changes


def _table(since: str) -> str:
    """Return the table, with the change since a commit; "" leaves it out."""
    lines: Counter[tuple[str, bool]] = Counter()
    for path in _git("ls-files", "*.py").splitlines():
        if not path.startswith("benchmarks/"):
            number = len((_ROOT / path).read_bytes().splitlines())
            lines[capability(path), path.startswith("tests/")] += number
    changes = _changes(since) if since else Counter[tuple[str, bool]]()
    names = tomllib.loads(_TABLE.read_text())
    rows = [f"{'':52} {'product':>16} {'tests':>16}"]
    for name in (*names, "sum"):
        cells = []
        for of_tests in (False, True):
            keys = [(each, of_tests) for each in (names if name == "sum" else [name])]
            change = sum(changes[key] for key in keys)
            shown = f"{sum(lines[key] for key in keys):,}"
            cells.append(f"{shown:>9} {f'{change:+,}' if change else '':>6}")
        rows.append(f"{name:52} {cells[0]} {cells[1]}")
    rows.append(f"Change since {since}." if since else "There is no release to compare with.")
    return "\n".join(rows)


if __name__ == "__main__":
    last_release = _git("describe", "--tags", "--abbrev=0")
    print(_table(sys.argv[1] if len(sys.argv) > 1 else last_release))
