"""The judge beside CleanVision and beside the JFIF rule: images a second, and good images kept.

    python -m benchmarks.cleanvision

CleanVision is fetched by pip into a temporary folder, for this measurement alone. Each side runs in
a process of its own on one core, ours before and after theirs, so that a machine that gets busy
meanwhile shows; imports count on neither side. CleanVision does its own checks; ours are those and
the others of the judge, decoding by the serving op among them. The JFIF rule is that of the Keras
and TFDS recipes for cats and dogs: a file is kept when "JFIF" stands in its first ten bytes.
What both find, check by check, is compared on the photographs and on four changed versions of each.
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

from PIL import Image

from benchmarks import agreement, common
from benchmarks.common import Figure

GOAL = 3  # times as many images a second of processor time
_LIMIT_SECONDS = 900.0
_EACH = 12  # photographs saved in each format

#: What both children do around their work: one core, and time of the processor and of the clock.
_AROUND = """
import json, os, sys, time
os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
def measured(work):
    clock, processor = time.perf_counter(), time.process_time()
    found = work()
    seconds = time.perf_counter() - clock, time.process_time() - processor
    print("RESULT" + json.dumps({"clock": seconds[0], "processor": seconds[1], **found}))
"""
_OURS = (
    _AROUND
    + """
import tensorflow
from imgpipe.components.image_filter import thread_driver as judge
from imgpipe.components.image_filter.check import Settings
def work():
    severity = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    judged = judge.judge(judge.Plan(sys.argv[1], Settings(severity=severity)))
    found = {"near": [one["path"] for group in judged.near or () for one in group["members"]]}
    for row in (*judged.rejects, *judged.warnings):
        found.setdefault(row.reason, []).append(row.path)
    for row in judged.rejects:  # both copies count
        found[row.reason] += [row.kept_copy] if row.kept_copy else []
    return {
        "found": found,
        "images": len(judged.scan.items),
        "rejected": [row.path for row in judged.rejects],
        "flagged": sorted({row.path for row in (*judged.rejects, *judged.warnings)}),
    }
measured(work)
"""
)
_THEIRS = (
    _AROUND
    + """
import contextlib, io
from cleanvision import Imagelab
def work():
    with contextlib.redirect_stdout(io.StringIO()):
        lab = Imagelab(data_path=sys.argv[1])
        lab.find_issues(n_jobs=1, verbose=False)
    root = os.path.realpath(sys.argv[1])
    found = {
        name.removeprefix("is_").removesuffix("_issue"): [
            os.path.relpath(path, root) for path in lab.issues.index[lab.issues[name]]
        ]
        for name in lab.issues if name.startswith("is_")
    }
    return {
        "images": len(lab.issues),
        "found": found,
        "flagged": sorted(set().union(*found.values())),
    }
measured(work)
"""
)


@dataclass(frozen=True)
class Side:
    """One of the two, and how to start it."""

    name: str
    command: tuple[str, ...]
    path: str  # PYTHONPATH

    def judge(self, folder: Path, *arguments: str) -> dict[str, Any]:
        """Judge a folder; the result holds "error" when it fell."""
        environment = {**os.environ, "PYTHONPATH": self.path}
        done = subprocess.run(
            [*self.command, str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=_LIMIT_SECONDS,
            env=environment,
            check=False,
        )
        lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
        if done.returncode or not lines:
            return {"error": (done.stderr.strip().splitlines() or ["no word"])[-1][:120]}
        found: dict[str, Any] = json.loads(lines[-1].removeprefix("RESULT"))
        return found


def fetch(target: Path) -> Side:
    """CleanVision in `target`, by the interpreter below this environment: no package is shared."""
    base = getattr(sys, "_base_executable", sys.executable)
    command = [base, "-m", "pip", "install", "--quiet", "--target", str(target), "cleanvision"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"CleanVision could not be fetched:\n{done.stderr[-1500:]}")
    return Side("CleanVision", (base, "-c", _THEIRS), str(target))


# --- valid files that a rule of thumb throws away ------------------------------------------------
def _saved(kind: str, mode: str = "RGB", **options: Any) -> Callable[[Image.Image], bytes]:
    def save(image: Image.Image) -> bytes:
        out = io.BytesIO()
        image.convert(mode).save(out, kind, **options)
        return out.getvalue()

    return save


def _camera(image: Image.Image) -> bytes:
    """As cameras write it: Exif in the place of JFIF."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Camera", "One"  # make and model
    data = _saved("JPEG", quality=92, exif=exif)(image)
    if data[6:10] != b"JFIF":
        return data
    length = int.from_bytes(data[4:6], "big")
    return data[:2] + data[4 + length :]


def _deep(image: Image.Image) -> bytes:
    import numpy as np

    grey = np.asarray(image.convert("L")).astype(np.uint16) * 257
    out = io.BytesIO()
    Image.fromarray(grey).save(out, "PNG")
    return out.getvalue()


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
    """Write photographs in every format, and cut ones; returns (format → paths, cut paths)."""
    good: dict[str, list[str]] = {name: [] for name in GOOD}
    cut = []
    each = len(photographs) // (len(GOOD) + 1)
    for place, (name, (suffix, save)) in enumerate(GOOD.items()):
        for number, photograph in enumerate(photographs[place * each : (place + 1) * each]):
            path = f"{'ab'[number % 2]}/{place:02d}-{number:02d}{suffix}"
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            with Image.open(photograph) as image:
                (folder / path).write_bytes(save(image))
            good[name].append(path)
    for number, photograph in enumerate(photographs[len(GOOD) * each :]):
        path = f"{'ab'[number % 2]}/cut-{number:02d}.jpg"
        data = photograph.read_bytes()
        (folder / path).write_bytes(data[: len(data) * (number + 1) // (each + 2)])
        cut.append(path)
    return good, cut


def jfif_keeps(file: Path) -> bool:
    """The rule of the recipes."""
    with file.open("rb") as opened:
        return b"JFIF" in opened.peek(10)[:10]


def speed(ours: Side, theirs: Side, folder: Path) -> list[Figure]:
    """Images a second of each, side by side."""
    before, other, after = ours.judge(folder), theirs.judge(folder), ours.judge(folder)
    if failed := [run["error"] for run in (before, other, after) if "error" in run]:
        sys.exit(f"could not be measured: {failed[0]}")
    rates = {}
    for clock in ("processor", "clock"):
        mine = (before["images"] + after["images"]) / (before[clock] + after[clock])
        rates[clock] = mine, other["images"] / other[clock]
    mine, his = rates["processor"]
    return [
        Figure(
            f"images a second and core, ours and {theirs.name}",
            f"{mine:.0f} and {his:.0f}, {mine / his:.2f} x ({before['images']} images)",
            f"≥ {GOAL} x",
        ),
        Figure(
            "the same by the clock",
            f"{rates['clock'][0]:.0f} and {rates['clock'][1]:.0f}, "
            f"{rates['clock'][0] / rates['clock'][1]:.2f} x",
        ),
    ]


def kept(ours: Side, theirs: Side, photographs: list[Path], work: Path) -> list[Figure]:
    """Good images kept, and cut ones let through, by each."""
    good, cut = odd_formats(photographs, work / "all")
    fine = sorted(path for paths in good.values() for path in paths)
    for path in fine:
        (work / "good" / path).parent.mkdir(parents=True, exist_ok=True)
        os.link(work / "all" / path, work / "good" / path)
    mine, his = ours.judge(work / "all"), theirs.judge(work / "good")
    for run in (mine, his):
        if "error" in run:
            sys.exit(f"could not be measured: {run['error']}")
    rejected, flagged = set(mine["rejected"]), set(his["flagged"])
    jfif = {path for path in (*fine, *cut) if jfif_keeps(work / "all" / path)}
    dropped = [name for name, paths in good.items() if not jfif & set(paths)]
    unseen = len(fine) - int(his["images"])
    with_cut = theirs.judge(work / "all").get("error", "ran through")
    return [
        Figure(
            "good images kept, ours",
            f"{len(set(fine) - rejected)} of {len(fine)}; cut ones kept {len(set(cut) - rejected)} "
            f"of {len(cut)}",
            "all; none",
        ),
        Figure(
            "good images kept, JFIF rule",
            f"{len(jfif & set(fine))} of {len(fine)}; cut ones kept {len(jfif & set(cut))} of "
            f"{len(cut)}; drops every {', '.join(dropped)}",
        ),
        Figure(
            f"good images without a mark, {theirs.name}",
            f"{len(set(fine) - flagged) - unseen} of {len(fine)}, {unseen} not looked at; "
            f"ours without a word {len(set(fine) - set(mine['flagged']))}",
        ),
        Figure(f"{theirs.name} on the same with the cut ones", with_cut),
    ]


def agreed(ours: Side, theirs: Side, photographs: list[Path], folder: Path) -> list[Figure]:
    """What both say of photographs and changed versions of them, by check."""
    agreement.make(photographs, folder)
    mine, his = ours.judge(folder, json.dumps(agreement.SEVERITY)), theirs.judge(folder)
    for run in (mine, his):
        if "error" in run:
            sys.exit(f"could not be compared: {run['error']}")
    return agreement.compare(mine["found"], his["found"], int(his["images"]))


def main() -> None:
    """Fetch, measure, print."""
    parser = common.parser(__doc__)
    parser.add_argument("--images", type=int, help="photographs for the speed (default: all)")
    parser.add_argument("--compared", type=int, help="photographs for the agreement (default: all)")
    parser.add_argument("--target", type=Path, help="folder that holds CleanVision already")
    options = parser.parse_args()
    cats = common.data_set(options.data, "cats_dogs")
    photographs = [path for path in common.sample(cats) if path.suffix == ".jpg"]
    print(f"machine: {common.machine()}")
    with common.workplace(options.work) as work:
        base = getattr(sys, "_base_executable", sys.executable)
        theirs = (
            Side("CleanVision", (base, "-c", _THEIRS), str(options.target))
            if options.target
            else fetch(work / "packages")
        )
        ours = Side("ours", (sys.executable, "-c", _OURS), str(common.ROOT))
        photos = common.copy(common.some(photographs, options.images), work / "photos")
        figures = speed(ours, theirs, photos)
        odd = common.some(photographs, _EACH * (len(GOOD) + 1))
        figures += kept(ours, theirs, odd, work)
        some = common.some(photographs, options.compared)
        figures += agreed(ours, theirs, some, work / "versions")
    common.finish(figures)


if __name__ == "__main__":
    main()
