"""Options, images, measured runs and printed figures, which the benchmarks share.

This module does not import TensorFlow, which would slow down what is measured in other processes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
MIB = 1 << 20

_SAMPLE_SECONDS = 0.1  # between two measurements of the memory
_RUN_LIMIT_SECONDS = 3600.0
ENDED = (0, 3, 4)  # exit codes of a run that finished: blessed, not blessed, data refused


@dataclass(frozen=True)
class Figure:
    """A figure to print; `goal` is empty if there is none."""

    what: str
    value: str
    goal: str = ""


@dataclass(frozen=True)
class Ended:
    """A program that ran in a process of its own until it ended.

    Attributes:
        seconds: Wall time from start to exit.
        processor: Processor seconds of the process and its children.
        peak_mib: Largest sum of their resident memory; shared pages count for each of them.
    """

    seconds: float
    processor: float
    peak_mib: float


@dataclass(frozen=True)
class Finished(Ended):
    """An `imgpipe run` that finished, with its summary."""

    summary: dict[str, Any]

    @property
    def forward_passes(self) -> int:
        """Number of forward passes of this run; 0 if the bank came from the cache."""
        return int(self.summary["bank"]["forward_passes"])

    def accuracy(self, measured: str) -> float:
        """Return an accuracy of the model.

        Args:
            measured: `decided`, for what decided (folds or validation), or a key of the metrics.

        Raises:
            SystemExit: No model was evaluated.
        """
        try:
            if measured == "decided":
                return float(self.summary["gate"]["decided_by"]["accuracy"])
            return float(self.summary["metrics"][measured]["accuracy"])
        except (KeyError, TypeError):  # without a gate, or without an image
            sys.exit(f"no accuracy ({measured}) in the summary: {self.summary['verdict']}")

    def images(self, measured: str) -> int:
        """Return the number of images of which an accuracy is; see `accuracy`."""
        if measured == "decided":
            return int(self.summary["gate"]["decided_by"]["count"])
        return sum(self.summary["data"]["by_split"][measured].values())


@dataclass(frozen=True)
class Trained:
    """The result of one way of training.

    Attributes:
        seconds: Wall time from files to the trained network.
        cpu: Processor seconds of all threads, which depend little on other work on the machine.
        accuracy: Accuracy on the validation images.
        note: How the time was spent.
    """

    seconds: float
    cpu: float
    accuracy: float
    note: str


def parser(doc: str | None, data: bool = True) -> argparse.ArgumentParser:
    """Return a parser with the options that the benchmarks share."""
    made = argparse.ArgumentParser(description=(doc or "").strip().splitlines()[0])
    if data:
        made.add_argument(
            "--data",
            type=Path,
            default=ROOT.parent / "shared" / "data",
            help="folder that holds cats_dogs and horses_or_humans",
        )
        made.add_argument(
            "--work", type=Path, metavar="DIR", help="new folder in which the runs are kept"
        )
    return made


def data_set(data: Path, name: str) -> Path:
    """Return the folder of a set of photographs.

    Raises:
        SystemExit: There is no such folder.
    """
    folder = data.resolve() / name
    if not folder.is_dir():
        sys.exit(
            f"no photographs at {folder}. They are not part of this project: expected a folder "
            f"{name} there, as described in docs/benchmarks.md; name another folder with --data."
        )
    return folder


@contextlib.contextmanager
def workplace(work: Path | None) -> Iterator[Path]:
    """Yield the given folder, or a temporary one, which is removed at the end."""
    if work is None:
        with tempfile.TemporaryDirectory(prefix="imgpipe-bench-") as folder:
            yield Path(folder)
        return
    work.mkdir(parents=True, exist_ok=True)
    if any(work.iterdir()):
        sys.exit(
            f"--work {work} is not empty, so that runs would use its cache. Choose a new folder."
        )
    yield work.resolve()


def sample(folder: Path, count: int | None = None) -> list[Path]:
    """List the photographs of a folder with one sub-folder for each class; see `subset`."""
    return subset([path for path in folder.glob("*/*") if path.is_file()], count)


def subset(paths: Iterable[Path], count: int | None) -> list[Path]:
    """Return `count` of the paths, sorted, or all if None; the choice is always the same."""
    ordered = sorted(paths)
    if count is None or count >= len(ordered):
        return ordered
    return sorted(random.Random(0).sample(ordered, count))


def copy(photographs: Iterable[Path], target: Path) -> Path:
    """Copy photographs to `target/<class>/<name>`, and return `target`."""
    for path in photographs:
        folder = target / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / path.name)
    return target


def imgpipe(*arguments: str) -> list[str]:
    """Return a command line of the console script beside this interpreter."""
    return [str(Path(sys.executable).with_name("imgpipe")), *arguments]


def run_imgpipe(
    data: Path, out: Path, settings: Sequence[str] = (), config: Path | str | None = None
) -> Finished:
    """Measure `imgpipe run DATA [--config CONFIG] --out OUT`; see `measured`."""
    summary = Path(f"{out}.summary.json")
    printed = Path(f"{out}.printed.txt")
    summary.unlink(missing_ok=True)
    summary.parent.mkdir(parents=True, exist_ok=True)
    option = "--config" if str(config).endswith(".toml") else "--preset"
    command = imgpipe("run", str(data), *([option, str(config)] if config else []))
    command += ["--out", str(out), "--json", str(summary)]
    for setting in settings:
        command += ["--set", setting]
    ended = measured(command, printed, ENDED)
    content = json.loads(summary.read_text())
    return Finished(ended.seconds, ended.processor, ended.peak_mib, content)


def measured(command: Sequence[str], printed: Path, codes: Sequence[int]) -> Ended:
    """Run a program in a process of its own and measure it.

    Args:
        command: The program and its arguments.
        printed: File for what it prints.
        codes: Exit codes of a program that finished.

    Raises:
        SystemExit: The program ended with another code; the message holds what it printed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with printed.open("w") as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT)
        with _PeakMemory(process.pid) as memory:
            try:
                code = process.wait(_RUN_LIMIT_SECONDS)
            finally:
                process.kill()  # after the time limit or Ctrl-C; it does nothing to one that ended
        seconds = time.perf_counter() - started
    if code not in codes:
        sys.exit(f"{' '.join(command)} ended with {code}:\n{printed.read_text()[-3000:]}")
    # Of all children that have ended, hence the difference; it includes their own children.
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Ended(seconds, processor, memory.peak_mib)


class _PeakMemory:
    """Samples the resident memory of a process and its children during the block."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)
        self.peak_mib = 0.0

    def __enter__(self) -> _PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(_SAMPLE_SECONDS):
            resident = 0
            with contextlib.suppress(psutil.Error):  # the process has just ended
                for process in (self._process, *self._process.children(recursive=True)):
                    with contextlib.suppress(psutil.Error):
                        resident += process.memory_info().rss
            self.peak_mib = max(self.peak_mib, resident / MIB)


def machine() -> str:
    """Describe the cores, memory and load of the machine, on which every time depends."""
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    memory = psutil.virtual_memory().total / (1 << 30)
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, load {load}"


def finish(figures: Sequence[Figure]) -> None:
    """Print the figures and the state of the machine."""
    width = max(len(figure.what) for figure in figures)
    print()
    for figure in figures:
        goal = f"   (goal {figure.goal})" if figure.goal else ""
        print(f"{figure.what:<{width}}  {figure.value}{goal}")
    print(f"{'machine, at the end':<{width}}  {machine()}", flush=True)
