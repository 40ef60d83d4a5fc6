"""All benchmarks, one after the other, as one markdown table with the command beside each number.

    python -m benchmarks --out FILE

Each runs in a process of its own, so that none inherits another's memory or loaded libraries. One
that fails, for want of the photographs say, leaves a row that says so; the others still run.
``benchmarks.growth`` is not among them, since its time depends on the numbers it is given.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import common

#: Module -> whether it needs the photographs.
BENCHMARKS = {
    "backbone": False,
    "client": False,
    "serving": False,
    "label_errors": True,
    "against_course": True,
    "whole_run": True,
    "training": True,
    "fine_tuning": True,
    "judge": True,
    "cleanvision": True,
}


def main() -> None:
    """Run them and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the table there as well")
    parser.add_argument("--data", type=Path, help="folder that holds cats_dogs, horses_or_humans")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS))
    options = parser.parse_args()
    lines = ["| figure | measured | goal | command |", "|---|---|---|---|"]
    began, start, failed = time.monotonic(), common.machine(), []
    for name in options.only:
        rows = run(name, options.data and options.data.resolve())
        if rows is None:
            failed.append(name)
            lines.append(f"| {name} | not measured, see the output above | | {_command(name)} |")
        lines += rows or []
    minutes = (time.monotonic() - began) / 60
    lines += [
        "",
        f"Machine: {start} at the start; at the end {common.machine()}; {minutes:.0f} min.",
    ]
    table = "\n".join(lines) + "\n"
    print(f"\n{table}", end="")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(table, encoding="utf-8")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def _command(name: str) -> str:
    return f"`python -m benchmarks.{name}`"


def run(name: str, data: Path | None) -> list[str] | None:
    """Rows of one benchmark; None when it failed."""
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    print(f"--- {name}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.json"
        command += ["--json", str(figures)]
        if data and BENCHMARKS[name]:
            command += ["--data", str(data)]
        done = subprocess.run(command, cwd=common.ROOT)
        if done.returncode or not figures.exists():
            return None
        return [
            f"| {_cell(figure['what'])} | {_cell(figure['value'])} | {_cell(figure['goal'])} "
            f"| {_command(name)} |"
            for figure in json.loads(figures.read_text())
        ]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    main()
