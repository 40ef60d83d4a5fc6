"""Size of the report, and the time in which Chromium opens it, by the number of images.

    python -m benchmarks.report_page --counts 1000 10000

The facts are made up and the images are noise, which compresses worse than photographs. A twentieth
of the files is rejected, a twentieth of the labels is doubtful, a tenth of the predictions is
wrong, and one image in 25 has near-duplicates. The pages are opened in turn, and the time is
counted until the browser has drawn what is visible. Other work on the machine makes it longer, so
that the ratio of the smallest times says most.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.common import Figure
from imgpipe.components.report.embedding import POINTS
from imgpipe.components.report.page import render
from imgpipe.components.report.sections import near
from tests import browser
from tests.components.report import report_facts
from tests.images import encoded, noise

_CLASSES = [f"class {number}" for number in range(12)]
_GOAL_SIZE, _GOAL_TIME = "< 10 MB", "< 2 s"
_DRAWN = """
  new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(
    () => done(performance.now()))))"""


class Photographs(dict[str, bytes]):
    """An image for each hash."""

    def __init__(self) -> None:
        super().__init__()
        self._images = [encoded(noise(i, (400, 300)), "JPEG", quality=90) for i in range(8)]

    def get(self, key: str, default: Any = None) -> Any:
        """Return one of a few images, the same one for the same hash."""
        return self._images[sum(key.encode()) % len(self._images)]


def facts(images: int) -> dict[str, Any]:
    """Make up the facts of a run on `images` images."""
    random = np.random.default_rng(0)
    rejects = [report_facts.reject(i, f"reason {i % 6}") for i in range(images // 20)]
    found: dict[str, Any] = report_facts.facts(_CLASSES, rejects, accuracy=0.9)
    for seed, split in enumerate(("validation", "test")):
        table = report_facts.measured(_CLASSES, images // 10, 0.9, seed)
        rows = table.mistakes()
        for row in rows:
            row["nearest"] = [
                {"image_hash": f"{row['path']}-{i}", "path": "a.jpg", "label": "b"}
                | {"similarity": 0.9}
                for i in range(3)
            ]
        found["metrics"][split] = table.summary()
        found["confusion"][split] = table.confusion()
        found["reliability"][split] = table.reliability()
        found["mistakes"][split] = rows
    found["embedding"] = {
        "images": images,
        "share": 0.3,
        "points": [
            [*random.uniform(-1, 1, 2).round(3).tolist(), i % 12, i % 3, int(i % 30 == 0)]
            for i in range(min(images, POINTS))
        ],
    }
    doubtful = found["suspects"]["rows"][0]
    found["suspects"] |= {
        "images": images,
        "disagree": images // 20,
        "rows": [doubtful | {"image_hash": f"doubt{i}"} for i in range(images // 20)],
    }
    member = found["near"]["rows"][0]["members"][0] | {"stays": True, "reason": "near_duplicate"}
    groups = [
        [member | {"path": f"rock/{i}-{j}.jpg", "image_hash": f"near{i}-{j}"} for j in range(2)]
        for i in range(images // 50)
    ]
    found["near"] = near.condensed({"radius": 40, "members": members} for members in groups)
    return found


def opened(page: browser.Page, file: Path) -> float:
    """Open a page and return the seconds until it is drawn."""
    page.open(file.as_uri())
    seconds = float(page.run(_DRAWN)) / 1000
    page.call("Page.navigate", url="about:blank")
    return seconds


def main() -> None:
    """Draw the pages and print their sizes and times."""
    parser = common.parser(__doc__, data=False)
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--times", type=int, default=5)
    arguments = parser.parse_args()
    if not browser.PROGRAM:
        parser.exit(5, "Chromium is not installed\n")
    print(f"machine: {common.machine()}")
    images = Photographs()
    figures = []
    with tempfile.TemporaryDirectory() as folder, browser.chromium(Path(folder)) as page:
        work = Path(folder)
        files = {count: work / f"{count}.html" for count in arguments.counts}
        for count, file in files.items():
            file.write_text(render(facts(count), None, images, report_facts.BLESSED), "utf-8")
        seconds: dict[int, list[float]] = {count: [] for count in files}
        for _ in range(arguments.times):
            for count, file in files.items():
                seconds[count].append(opened(page, file))
        first = min(seconds[arguments.counts[0]])
        for count, file in files.items():
            size, least = file.stat().st_size / 1e6, min(seconds[count])
            told = f"{least:.2f} s, {least / first:.2f} × the first"
            figures += [
                Figure(f"size of the page of {count:,} images", f"{size:.2f} MB", _GOAL_SIZE),
                Figure(f"time until the page of {count:,} images is drawn", told, _GOAL_TIME),
            ]
    common.finish(figures)


if __name__ == "__main__":
    main()
