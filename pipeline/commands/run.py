"""``imgpipe run``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from components.report import expectation
from models.errors import ConfigError, ResourceError
from pipeline.commands.settings import configuration
from pipeline.config import Config

_COLOURS = {0: "green", 3: "yellow", 4: "yellow"}


def run(
    source: str | None,
    data: str | None,
    out: Path | None,
    settings: Sequence[str],
    json_file: str | None,
    start: str | None,
    dry_run: bool,
) -> int:
    """Run, or say what a run would do; returns the exit code."""
    config = configuration(source, data, out, settings)
    if dry_run:
        from pipeline import dry

        Console(highlight=False, soft_wrap=True).print(escape(dry.describe(config)))
        return 0
    return run_config(config, json_file, start)


def run_config(config: Config, json_file: str | None, start: str | None = None) -> int:
    """Run a configuration, print how it ended, write the summary; returns the exit code."""
    from pipeline.run import execute

    if json_file not in (None, "-") and not Path(str(json_file)).absolute().parent.is_dir():
        raise ConfigError(f"--json {json_file}: its folder does not exist.")
    outcome = execute(config, start)
    # With the summary on standard output, people's text moves to standard error.
    console = Console(highlight=False, soft_wrap=True, stderr=json_file == "-")
    colour = _COLOURS.get(outcome.exit_code, "red")
    console.print(f"\n[bold {colour}]{escape(outcome.verdict)}[/]")
    console.print(f"  data     {escape(_data(outcome.summary['data']))}")
    push = outcome.summary["push"]
    if push["status"] in ("pushed", "unchanged"):
        console.print(f"  model    {escape(push['path'])} ({push['status']})")
    for heading, text in _training(outcome.summary["training"], outcome.directory):
        console.print(f"  {heading:<8} {escape(text)}")
    for kind, export in sorted((outcome.summary["lite"] or {}).items()):
        console.print(f"  {kind:<8} {escape(_export(export))}")
    for heading, text in expectation.lines(outcome.summary["expected"]):
        console.print(f"  {heading} {escape(text)}")
    for warning in outcome.summary["warnings"]:
        console.print(f"  note     {escape(warning)}")
    console.print(f"  report   {escape(outcome.summary['report'])}")
    console.print(f"  summary  {escape(str(outcome.directory / 'summary.json'))}")
    if outcome.exit_code:
        console.print(f"  log      {escape(outcome.summary['log'])}")
    if push["status"] in ("pushed", "unchanged"):
        console.print(f"  serve it: imgpipe serve {escape(str(Path(push['path']).parent))}")
    if json_file:
        write_summary(outcome.summary, json_file)
    return outcome.exit_code


def _data(data: Mapping[str, Any]) -> str:
    """What became of the files, in one line."""
    if not data["in"]:
        return "no file was judged"
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(data["by_reason"].items()))
    rejected = f"{data['rejected']} in quarantine" + (f" ({reasons})" if reasons else "")
    repaired = f", {data['repaired']} repaired" if data["repaired"] else ""
    return f"{data['in']} files: {data['kept']} kept{repaired}, {rejected}"


def _training(training: Mapping[str, Any] | None, directory: Path) -> Iterator[tuple[str, str]]:
    """What fine-tuning did, and where the Tuner's best settings are."""
    tuned = (training or {}).get("fine_tune")
    if tuned and tuned["stopped"] == "diverged" and not tuned["shipped"]:
        yield "trained", "the head alone: fine-tuning diverged; lower fine_tune.learning_rate"
    elif tuned:
        ships = "ships" if tuned["shipped"] else "the head alone ships"
        yield (
            "trained",
            f"{tuned['trained']}: validation accuracy {tuned['head_accuracy']:.3f} of the head, "
            f"{tuned['accuracy']:.3f} after fine-tuning; {ships}",
        )
    if training and training["tuned"]:
        found = ", ".join(f"{name} {value:.4g}" for name, value in training["tuned"].items())
        yield "tuned", f"{found}; run with them: imgpipe run {directory / 'tuned.toml'}"


def _export(export: Mapping[str, Any]) -> str:
    """What became of one LiteRT file, in one line."""
    if not export["blessed"]:
        return f"not shipped: {export['why']}"
    return (
        f"{export['file']}, {export['bytes'] / 1e6:.1f} MB, blessed: accuracy "
        f"{export['accuracy']:.3f}, the model's is {export['model_accuracy']:.3f}"
    )


def write_summary(summary: dict[str, object], target: str) -> None:
    """Write the summary to a file, or to standard output for "-"."""
    text = json.dumps(summary, indent=1, ensure_ascii=False) + "\n"
    try:
        text.encode()
    except UnicodeEncodeError:  # a file name that is not UTF-8
        text = json.dumps(summary, indent=1) + "\n"
    if target == "-":
        sys.stdout.write(text)
        return
    path = Path(target)
    beside = path.with_name(f".tmp-{path.name}")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise ResourceError(f"cannot write --json {target}: {error.strerror}.") from None
