"""Whole runs and a check, side by side with another checkout of the project, as ratios.

    git worktree add ../before COMMIT && make -C ../before .venv/.ready
    python -m benchmarks.against_commit ../before

In each round both do, in turns: a first run on all photographs but a few, a run with these added,
and `imgpipe check` of all of them with the same output folder. Nothing of a summary is read, whose
fields may differ between commits.
"""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path

from benchmarks import common
from benchmarks.common import Ended, Figure


def main() -> None:
    """Measure both checkouts in turns, and print seconds, processor seconds and their ratios."""
    parser = common.parser(__doc__)
    parser.add_argument("checkout", type=Path, help="the other checkout, with its .venv")
    parser.add_argument("--set", default="cats_dogs", help="folder of photographs in --data")
    parser.add_argument("--images", type=int, help="photographs (default: all of them)")
    parser.add_argument("--added", type=int, default=12, help="photographs added in the second run")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    photographs = common.sample(common.data_set(options.data, options.set), options.images)
    new = common.subset(photographs, options.added)
    old = sorted(set(photographs) - set(new))
    programs = {
        "before": str(options.checkout.resolve() / ".venv" / "bin" / "imgpipe"),
        "now": common.imgpipe()[0],
    }
    print(f"machine: {common.machine()}")
    ended: dict[str, dict[str, list[Ended]]] = {}
    with common.workplace(options.work) as work:
        for number in range(options.rounds):
            for name, program in programs.items():
                folder = work / f"{name}-{number}"
                for what, one in _round(program, folder, old, new).items():
                    ended.setdefault(what, {}).setdefault(name, []).append(one)
                    print(f"{name}, {what}: {one.seconds:.1f} s", flush=True)
                shutil.rmtree(folder)
    common.finish([figure for what, both in ended.items() for figure in _figures(what, both)])


def _round(program: str, work: Path, old: list[Path], new: list[Path]) -> dict[str, Ended]:
    """Measure what one checkout does in one round, by what is done."""
    data = common.copy(old, work / "photographs")
    out = ("--out", str(work / "out"))
    ended = {}
    for what, command in (("first run", "run"), ("added", "run"), ("check", "check")):
        if what == "added":
            common.copy(new, data)
        words = [program, command, str(data), *out]
        ended[what] = common.measured(words, work / f"{what}.txt", common.ENDED)
    return ended


def _figures(what: str, both: dict[str, list[Ended]]) -> list[Figure]:
    """Return the ratios of the medians."""

    def told(unit: str, values: dict[str, list[float]]) -> str:
        before, now = (statistics.median(values[name]) for name in ("before", "now"))
        listed = ", ".join(f"{value:.1f}" for value in values["now"])
        return f"{now / before:.2f} ({listed} {unit} against {before:.1f})"

    wall = {name: [one.seconds for one in each] for name, each in both.items()}
    processor = {name: [one.processor for one in each] for name, each in both.items()}
    peak = max(one.peak_mib for one in both["now"]) - max(one.peak_mib for one in both["before"])
    return [
        Figure(what, told("s", wall)),
        Figure("… in processor time", told("s", processor)),
        Figure("… peak memory", f"{peak:+.0f} MiB"),
    ]


if __name__ == "__main__":
    main()
