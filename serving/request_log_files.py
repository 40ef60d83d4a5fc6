"""The files of a request log: `<prefix>-<time>-<process>-<number>.tfrecord`."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

SUFFIX = ".tfrecord"
_REST = rf"-\d{{8}}-\d{{6}}-\d+-\d+{re.escape(SUFFIX)}"


def new(prefix: str, number: int) -> Path:
    """Return the path of a new file of this process."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    return Path(f"{prefix}-{stamp}-{os.getpid()}-{number}{SUFFIX}")


def of_prefix(prefix: Path) -> list[Path]:
    """Return the files with a prefix, but not those of a longer one: `cats` and `cats-dogs`."""
    pattern = re.compile(re.escape(prefix.name) + _REST)
    folder = prefix.parent
    listed = folder.iterdir() if folder.is_dir() else ()
    return [path for path in listed if pattern.fullmatch(path.name)]
