"""The checks of imgpipe against CleanVision and the JFIF rule: speed, and good images kept.

    python -m benchmarks.against_cleanvision

pip installs CleanVision into a temporary folder for this measurement. Each side runs in a process
of its own on one core, imgpipe before and after CleanVision, to show whether the machine became
busy meanwhile. Imports are not measured. CleanVision runs its own checks; imgpipe runs the same
and all others, among them the decoding by the serving op. The JFIF rule is that of Keras' and TFDS'
recipes for cats and dogs: a file is kept if its first ten bytes contain "JFIF".
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import common
from benchmarks.against_cleanvision_sides import MARK, Result
from benchmarks.common import Figure

GOAL = 3  # ratio of images per second of processor time
_LIMIT_SECONDS = 900.0
_EACH = 12  # photographs saved in each format


@dataclass(frozen=True)
class Side:
    """One side of the comparison, and how to start it."""

    name: str
    interpreter: str
    packages: tuple[Path, ...]  # folders in which it looks for libraries, besides its own

    def judge(self, folder: Path) -> Result | str:
        """Check a folder; returns the error if the program failed."""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, self.packages))}
        environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        done = subprocess.run(
            [
                self.interpreter,
                "-m",
                "benchmarks.against_cleanvision_sides",
                self.name,
                str(folder),
            ],
            capture_output=True,
            text=True,
            timeout=_LIMIT_SECONDS,
            env=environment,
            check=False,
        )
        lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
        if done.returncode or not lines:
            return (done.stderr.strip().splitlines() or ["no message"])[-1][:120]
        checked: Result = json.loads(lines[-1].removeprefix(MARK))
        return checked

    def result(self, folder: Path) -> Result:
        """Check a folder, and exit with a message if the program fails."""
        checked = self.judge(folder)
        if isinstance(checked, str):
            sys.exit(f"{self.name} could not be measured: {checked}")
        return checked


def fetch(target: Path) -> Side:
    """Install CleanVision into `target` if needed, for an interpreter without our packages."""
    # The interpreter outside of the virtual environment, whose packages CleanVision must not see.
    base = getattr(sys, "_base_executable", sys.executable)
    command = [base, "-m", "pip", "install", "--quiet", "--target", str(target), "cleanvision"]
    if not (target / "cleanvision").exists():
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"CleanVision could not be installed:\n{done.stderr[-1500:]}")
    return Side("CleanVision", base, (target, common.ROOT))


def _saved(kind: str, mode: str = "RGB", **options: Any) -> Callable[[Image.Image], bytes]:
    def save(image: Image.Image) -> bytes:
        out = io.BytesIO()
        (image.convert(mode) if mode else image).save(out, kind, **options)
        return out.getvalue()

    return save


def _camera(image: Image.Image) -> bytes:
    """Save a JPEG as cameras do, with an Exif segment and no JFIF segment."""
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    exif[0x0110] = "One"  # make and model
    data = _saved("JPEG", quality=92, exif=exif)(image)
    if data[6:10] != b"JFIF":
        return data
    length = int.from_bytes(data[4:6], "big")
    return data[:2] + data[4 + length :]


def _deep(image: Image.Image) -> bytes:
    grey = np.asarray(image.convert("L")).astype(np.uint16) * 257
    return _saved("PNG", "")(Image.fromarray(grey))


GOOD: dict[str, tuple[str, Callable[[Image.Image], bytes]]] = {
    "JPEG": (".jpg", _saved("JPEG", quality=90)),
    "JPEG with Exif alone": (".jpg", _camera),
    "progressive JPEG": (".jpg", _saved("JPEG", quality=85, progressive=True)),
    "CMYK JPEG": (".jpg", _saved("JPEG", "CMYK", quality=90)),
    "PNG": (".png", _saved("PNG")),
    "PNG named .jpg": (".jpg", _saved("PNG")),
    "PNG with alpha": (".png", _saved("PNG", "RGBA")),
    "palette PNG": (".png", _saved("PNG", "P")),
    "16-bit PNG": (".png", _deep),
    "WebP": (".webp", _saved("WEBP", quality=85)),
    "BMP": (".bmp", _saved("BMP")),
    "still GIF": (".gif", _saved("GIF")),
    "TIFF": (".tif", _saved("TIFF")),
}


def odd_formats(photographs: list[Path], folder: Path) -> tuple[dict[str, list[str]], list[str]]:
    """Write photographs in every format, and truncated ones; return the paths of both."""
    good: dict[str, list[str]] = {name: [] for name in GOOD}
    cut = []
    per_format = len(photographs) // (len(GOOD) + 1)
    for place, (name, (suffix, save)) in enumerate(GOOD.items()):
        for number, photograph in enumerate(
            photographs[place * per_format : (place + 1) * per_format]
        ):
            path = f"{'ab'[number % 2]}/{place:02d}-{number:02d}{suffix}"
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            with Image.open(photograph) as image:
                (folder / path).write_bytes(save(image))
            good[name].append(path)
    for number, photograph in enumerate(photographs[len(GOOD) * per_format :]):
        path = f"{'ab'[number % 2]}/cut-{number:02d}.jpg"
        data = photograph.read_bytes()
        (folder / path).write_bytes(data[: len(data) * (number + 1) // (per_format + 2)])
        cut.append(path)
    return good, cut


def jfif_keeps(file: Path) -> bool:
    """Whether the rule of the recipes keeps a file."""
    with file.open("rb") as opened:
        return b"JFIF" in opened.peek(10)[:10]


def speed(ours: Side, theirs: Side, folder: Path) -> list[Figure]:
    """Measure the images per second of either side."""
    before = ours.result(folder)
    rival = theirs.result(folder)
    after = ours.result(folder)
    images = before["images"] + after["images"]
    mine = images / (before["processor"] + after["processor"])
    his = rival["images"] / rival["processor"]
    what = f"images per second and core, ours and {theirs.name}"
    value = f"{mine:.0f} and {his:.0f}, {mine / his:.2f} x ({before['images']} images)"
    mine = images / (before["clock"] + after["clock"])
    his = rival["images"] / rival["clock"]
    clock = f"{mine:.0f} and {his:.0f}, {mine / his:.2f} x"
    return [Figure(what, value, f"≥ {GOAL} x"), Figure("the same in wall time", clock)]


def kept(ours: Side, theirs: Side, photographs: list[Path], work: Path) -> list[Figure]:
    """Count the good images and the truncated ones that each side keeps."""
    good, cut = odd_formats(photographs, work / "all")
    fine = sorted(path for paths in good.values() for path in paths)
    for path in fine:
        (work / "good" / path).parent.mkdir(parents=True, exist_ok=True)
        os.link(work / "all" / path, work / "good" / path)
    mine = ours.result(work / "all")
    his = theirs.result(work / "good")
    rejected = set(mine["rejected"])
    flagged = set(his["flagged"])
    jfif = {path for path in (*fine, *cut) if jfif_keeps(work / "all" / path)}
    dropped = [name for name, paths in good.items() if not jfif & set(paths)]
    unseen = len(fine) - his["images"]
    with_cut = theirs.judge(work / "all")
    return [
        Figure(
            "good images kept, ours",
            f"{len(set(fine) - rejected)} of {len(fine)}; truncated ones kept "
            f"{len(set(cut) - rejected)} of {len(cut)}",
            "all; none",
        ),
        Figure(
            "good images kept, JFIF rule",
            f"{len(jfif & set(fine))} of {len(fine)}; truncated ones kept {len(jfif & set(cut))} "
            f"of {len(cut)}; drops every {', '.join(dropped)}",
        ),
        Figure(
            f"good images without a finding, {theirs.name}",
            f"{len(set(fine) - flagged) - unseen} of {len(fine)}, {unseen} not checked; "
            f"ours {len(set(fine) - set(mine['flagged']))}",
        ),
        Figure(
            f"{theirs.name} on the same with the truncated ones",
            with_cut if isinstance(with_cut, str) else "finished",
        ),
    ]


def main() -> None:
    """Install CleanVision, measure and print the figures."""
    parser = common.parser(__doc__)
    parser.add_argument("--images", type=int, help="photographs to measure (default: all)")
    parser.add_argument("--target", type=Path, help="folder in which CleanVision is installed")
    options = parser.parse_args()
    cats = common.data_set(options.data, "cats_dogs")
    photographs = [path for path in common.sample(cats) if path.suffix == ".jpg"]
    print(f"machine: {common.machine()}")
    if sys.platform == "linux":  # one processor, also for the sides
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with common.workplace(options.work) as work:
        theirs = fetch(options.target or work / "packages")
        ours = Side("imgpipe", sys.executable, (common.ROOT,))
        photos = common.copy(common.subset(photographs, options.images), work / "photos")
        figures = speed(ours, theirs, photos)
        odd = common.subset(photographs, _EACH * (len(GOOD) + 1))
        figures += kept(ours, theirs, odd, work)
    common.finish(figures)


if __name__ == "__main__":
    main()
