"""The two programs that `benchmarks.against_cleanvision` starts: each prints the time of a check.

    python -m benchmarks.against_cleanvision_sides {imgpipe,CleanVision} FOLDER

The measurement begins after the libraries are imported. Each side imports only its own:
CleanVision runs in an interpreter that does not have those of imgpipe.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time
from collections.abc import Callable
from typing import TypedDict

#: What stands before the result in the output, among messages of libraries.
MARK = "RESULT"


class Checked(TypedDict):
    """What one side has found; paths are relative to the folder."""

    images: int
    rejected: list[str]
    flagged: list[str]


class Result(Checked):
    """What one side has found, and its wall time and processor time in seconds."""

    clock: float
    processor: float


def imgpipe(folder: str) -> Callable[[], Checked]:
    """Return a function that checks a folder as `imgpipe check` does."""
    import tensorflow as tf  # noqa: F401 - the import is not measured

    from imgpipe.pipeline.configuration import config as configs
    from imgpipe.pipeline.data_check import judge, listed

    def check() -> Checked:
        config = configs.build({"data": {"source": folder}})
        checked = judge(config, listed(config))
        images = checked.images
        return {
            "images": len(images.rows),
            "rejected": [row["path"] for row in images.rejected],
            "flagged": sorted({row["path"] for row in images.rejected + images.warned}),
        }

    return check


def cleanvision(folder: str) -> Callable[[], Checked]:
    """Return a function that checks a folder with all checks of CleanVision."""
    from cleanvision import Imagelab

    def check() -> Checked:
        with contextlib.redirect_stdout(io.StringIO()):
            lab = Imagelab(data_path=folder)
            lab.find_issues(n_jobs=1, verbose=False)
        root = os.path.realpath(folder)
        flagged: set[str] = set()
        for name in lab.issues:
            if name.startswith("is_"):
                flagged.update(lab.issues.index[lab.issues[name]])
        paths = sorted(os.path.relpath(path, root) for path in flagged)
        return {"images": len(lab.issues), "rejected": [], "flagged": paths}

    return check


def main() -> None:
    """Check the folder, and print what was found with the time that it took."""
    side, folder = sys.argv[1:]
    check = {"imgpipe": imgpipe, "CleanVision": cleanvision}[side](folder)
    clock = time.perf_counter()
    processor = time.process_time()
    checked = check()
    result: Result = {
        **checked,
        "clock": time.perf_counter() - clock,
        "processor": time.process_time() - processor,
    }
    print(MARK + json.dumps(result))


if __name__ == "__main__":
    main()
