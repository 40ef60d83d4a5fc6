"""`python -m tests.fuzz [TARGET …] [--seconds N] [--keep N]`: fuzz some or all targets.

The exit code is 1 if a reader did not answer. Each target runs in a process of its own, so that a
crash or a hang ends only that process, and the input that caused it is known.
"""

import argparse
import hashlib
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import NoReturn

from tests.fuzz.mutation import mutate
from tests.fuzz.targets import TARGETS, Target

_HANG_SECONDS = 20  # for one input, of 64 KiB at most
_START_SECONDS = 120  # to import and to read the corpus, on a busy machine
_DEFECTS = 3  # exit code of a worker that found defects; 1 is the code of any other error
_MEMORY = 4 << 30  # bytes in addition to those in use after the imports
_LOG_SHOWN = 4000  # characters of the log of a worker that are printed if it ends with an error
_CURRENT = "current"  # name of the file with the input that is being read


class Hang(BaseException):
    """Raised in a reader that takes too long; `except Exception` does not catch it."""


def main() -> int:
    """Fuzz the targets one after the other and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=float, default=60, help="for each target")
    parser.add_argument("--keep", type=int, default=1000, help="most inputs kept for a target")
    parser.add_argument("--seed", type=int, default=time.time_ns())
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        target = TARGETS[given.targets[0]]
        return work(target, Path(given.worker), given.seconds, given.keep, given.seed)
    unknown = sorted(set(given.targets) - set(TARGETS))
    if unknown:
        parser.error(f"unknown target {unknown[0]!r}; expected {', '.join(TARGETS)}")
    results = [_in_a_process(TARGETS[name], given) for name in given.targets or TARGETS]
    return max(results)


def _in_a_process(target: Target, given: argparse.Namespace) -> int:
    """Fuzz a target in a process of its own; return 1 if a reader did not answer, otherwise 0."""
    with tempfile.TemporaryDirectory(prefix="imgpipe-fuzz-") as folder:
        command = [sys.executable, "-m", "tests.fuzz", target.name, "--worker", folder]
        for option in ("seconds", "keep", "seed"):
            command += [f"--{option}", str(getattr(given, option))]
        log = Path(folder) / "log"  # TensorFlow logs much while it starts
        try:
            with log.open("wb") as errors:
                patience = given.seconds + _START_SECONDS + _HANG_SECONDS
                code = subprocess.run(
                    command, timeout=patience, stderr=errors, check=False
                ).returncode
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL
        if code not in (0, _DEFECTS):
            current = Path(folder) / _CURRENT
            started = current.is_file()
            place = _keep(target, current.read_bytes()) if started else "before the first input"
            print(f"{target.name}: the process ended with {code}: {place}")
            print(log.read_text(errors="replace")[-_LOG_SHOWN:])
            code = 1
    return min(code, 1)


def work(target: Target, folder: Path, seconds: float, most: int, seed: int) -> int:
    """Fuzz one target; return `_DEFECTS` if the reader did not answer an input, otherwise 0.

    At most so many inputs with new answers are kept in the corpus.
    """
    warnings.simplefilter("ignore")
    draw = random.Random(seed)
    pool, answers, defects = target.inputs(), set(), set()
    for number, data in enumerate(pool):  # the first input waits for the imports
        patience = _HANG_SECONDS if number else _START_SECONDS
        answers.add(_answer(target, data, folder, patience))
    _limit_memory()
    kept, rounds, end = 0, 0, time.monotonic() + seconds
    while time.monotonic() < end:
        data = mutate(draw.choice(pool), draw.choice(pool), draw)
        rounds += 1
        try:
            answer = _answer(target, data, folder)
        except (Exception, Hang) as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            if (type(error), frame.lineno) not in defects:
                defects.add((type(error), frame.lineno))
                print(f"{target.name}: {type(error).__name__}: {error}: {_keep(target, data)}")
                traceback.print_exception(error, limit=-4, file=sys.stdout)
            continue
        if answer not in answers:
            answers.add(answer)
            pool.append(data)
            if kept < most:
                _keep(target, data)
                kept += 1
    print(f"{target.name}: {rounds:,} inputs, {len(answers)} answers, {len(defects)} defects")
    return _DEFECTS if defects else 0


def _answer(target: Target, data: bytes, folder: Path, seconds: int = _HANG_SECONDS) -> str:
    """Return the answer to an input, which is kept in a file in case the process ends."""
    (folder / _CURRENT).write_bytes(data)
    signal.signal(signal.SIGALRM, _hung)
    signal.alarm(seconds)
    try:
        return target.answer(data, folder)
    finally:
        signal.alarm(0)


def _hung(number: int, frame: object) -> NoReturn:
    """Raise `Hang` when the alarm rings."""
    raise Hang("no answer in time")


def _limit_memory() -> None:
    """Limit the address space of this process to what it uses now and `_MEMORY`."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + _MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _keep(target: Target, data: bytes) -> Path:
    """Write an input to the corpus of its target, and return the file."""
    target.corpus.mkdir(parents=True, exist_ok=True)
    place = target.corpus / hashlib.sha256(data).hexdigest()[:16]
    place.write_bytes(data)
    return place


if __name__ == "__main__":
    sys.exit(main())
