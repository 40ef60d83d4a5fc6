"""Seconds of ``imgpipe check`` against reading and decoding the same images.

    python -m benchmarks.check

Both programs run in processes of their own, with all cores, in turns. The decoder is the operation
of the served model, in a tf.data pipeline that does nothing else. Once the imports are left out,
and once the whole processes are measured from start to exit.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

from benchmarks import common
from benchmarks.common import Figure

GOAL = 1.5
_ROUNDS = 3
_LIMIT_SECONDS = 600.0

#: Prints the seconds of `work` after the imports.
_AROUND = """
import os, sys, time
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf
{imports}
started = time.perf_counter()
{work}
print(f"SECONDS {{time.perf_counter() - started}} {{count}}")
"""
_DECODE = _AROUND.format(
    imports="paths = sys.argv[1:]",
    work="""
def decode(path):
    return tf.shape(tf.io.decode_image(tf.io.read_file(path), 3, expand_animations=False))
images = tf.data.Dataset.from_tensor_slices(paths).map(decode, tf.data.AUTOTUNE)
count = sum(1 for _ in images)
""",
)
_CHECK = _AROUND.format(
    imports="from imgpipe.components import source_check",
    work="count = len(source_check.judge(source_check.Plan(sys.argv[1])).scan.items)",
)


def main() -> None:
    """Measure both programs in turns and print the ratios."""
    parser = common.parser(__doc__)
    parser.add_argument("--set", default="cats_dogs", help="folder of the photographs")
    parser.add_argument("--images", type=int, help="photographs (default: all)")
    options = parser.parse_args()
    paths = common.sample(common.data_set(options.data, options.set), options.images)
    print(f"machine: {common.machine()}")
    alone: dict[str, list[float]] = {"decode": [], "check": []}
    whole: dict[str, list[float]] = {"decode": [], "check": []}
    with common.workplace(options.work) as work:
        folder = common.copy(paths, work / "photographs")
        files = [str(path) for path in common.sample(folder)]
        decode = [sys.executable, "-c", _DECODE, *files]
        check = [sys.executable, "-c", _CHECK, str(folder)]
        command = common.imgpipe("check", str(folder))
        for _ in range(_ROUNDS):
            alone["decode"].append(_seconds(decode, len(files)))
            alone["check"].append(_seconds(check, len(files)))
            printed = work / "printed.txt"
            whole["decode"].append(common.measured(decode, printed, (0,)).seconds)
            whole["check"].append(common.measured(command, printed, (0,)).seconds)
    common.finish(
        [
            _figure(f"checks of {len(files):,} photographs, without imports", alone, True),
            _figure("… the whole processes", whole, False),
        ]
    )


def _seconds(command: list[str], images: int) -> float:
    """Run a program that prints its seconds and the number of its images."""
    done = subprocess.run(
        command, cwd=common.ROOT, capture_output=True, text=True, timeout=_LIMIT_SECONDS
    )
    told = [line.split() for line in done.stdout.splitlines() if line.startswith("SECONDS")]
    if done.returncode or not told or int(told[0][2]) != images:
        sys.exit(f"expected {images} images. Received: {done.stdout[-500:]}{done.stderr[-2000:]}")
    return float(told[0][1])


def _figure(what: str, seconds: dict[str, list[float]], goal: bool) -> Figure:
    ratios = [one / other for one, other in zip(seconds["check"], seconds["decode"], strict=True)]
    check, decode = (statistics.median(seconds[name]) for name in ("check", "decode"))
    return Figure(
        what,
        f"{statistics.median(ratios):.2f} × the time to read and decode them "
        f"({min(ratios):.2f} to {max(ratios):.2f}; {check:.1f} and {decode:.1f} s)",
        f"≤ {GOAL} ×" if goal else "",
    )


if __name__ == "__main__":
    main()
