"""``imgpipe load``: how much a server carries, and how fast. No TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from models.errors import ConfigError
from pipeline.commands.predict import ServerError
from serving.client import ServingError, load
from serving.client.images import files_of
from serving.client.load import Level, Plan

_MOST_IMAGES = 512
"""Requests are made before the clock starts and held in memory."""
_FAILED = 1
"""Exit code when nothing was answered at some level."""
_HEADINGS = (
    f"{'callers':>7} {'requests/s':>11} {'images/s':>9} {'p50 ms':>8} {'p90 ms':>8} "
    f"{'p99 ms':>8}  stable  errors"
)


@dataclass(frozen=True)
class Settings:
    """The command's options."""

    plan: Plan
    batch: int
    timeout: float


def settings(
    concurrency: str,
    batch: int,
    window: float,
    tolerance: float,
    windows: int,
    timeout: float,
) -> Settings:
    """From the command line.

    Raises:
      ConfigError: one of them cannot be.
    """
    try:
        levels = tuple(int(part) for part in concurrency.split(","))
    except ValueError:
        raise ConfigError(
            f"--concurrency takes numbers such as 1,8,32. Received: {concurrency!r}."
        ) from None
    try:
        return Settings(Plan(levels, window, tolerance, windows), batch, timeout)
    except ServingError as error:
        raise ConfigError(str(error)) from None


def run(
    target: str, model: str, images: Sequence[Path], wanted: Settings, json_file: str | None
) -> int:
    """Measure and print; returns the exit code."""
    console = Console(stderr=json_file == "-", highlight=False, soft_wrap=True)
    try:
        contents = [path.read_bytes() for path in files_of(images)[:_MOST_IMAGES]]
        calls = load.image_calls(contents, model, wanted.batch, wanted.timeout)
        way = load.connection(target, wanted.timeout)
        levels = load.run(way, calls, wanted.plan, lambda level: _show(console, level, wanted))
    except ServingError as error:
        raise ServerError(target, model, error) from error
    except OSError as error:
        raise ConfigError(f"cannot read {error.filename}: {error.strerror}.") from None
    if json_file:
        body = load.report(target, model, wanted.batch, wanted.plan, levels)
        text = json.dumps(body, indent=1) + "\n"
        if json_file == "-":
            print(text, end="")
        else:
            Path(json_file).write_text(text, encoding="utf-8")
    return 0 if all(level.requests for level in levels) else _FAILED


def _show(console: Console, level: Level, wanted: Settings) -> None:
    if level.concurrency == wanted.plan.concurrency[0]:
        console.print(_HEADINGS)
    times = "".join(
        f" {'-' if value is None else format(value, '.2f'):>8}"
        for value in (level.latency_ms[name] for name in ("p50", "p90", "p99"))
    )
    errors = ", ".join(f"{code} {count}" for code, count in level.errors.items()) or "none"
    note = ""
    if level.client_cores > 0.9:
        note = "  (the generator took a core of its own: it may be the limit)"
    console.print(
        f"{level.concurrency:>7} {level.throughput:>11.1f} "
        f"{level.throughput * wanted.batch:>9.1f}{times}  {'yes' if level.stable else 'no':>6}  "
        f"{errors}{note}"
    )
