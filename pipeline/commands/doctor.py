"""``imgpipe doctor``: checks this machine and the output folder of earlier runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from imgpipe.pipeline.command_line import options
from imgpipe.pipeline.command_line.terminal import escape

app = typer.Typer()

SCHEMA = 1  # of what --json writes
_EXAMPLES = """Examples:\n
  imgpipe doctor\n
  imgpipe doctor imgpipe-out --repair
"""


@app.command(rich_help_panel=options.MACHINE, epilog=_EXAMPLES)
def doctor(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="[OUT]",
            help="Output folder of the runs, one of its versions, or one of its runs.",
        ),
    ] = Path("imgpipe-out"),
    out: Annotated[Path | None, options.old_spelling("--out", "OUT")] = None,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Replace a damaged or lost metadata database; a damaged one is kept."
        ),
    ] = False,
    json_file: options.JsonListOption = None,
) -> None:
    """Check this machine and an output folder, and say how to solve each problem."""
    raise typer.Exit(run(out or folder, repair, json_file))


def run(out: Path, repair: bool = False, json_file: str | None = None) -> int:
    """Print the findings of all checks.

    Args:
      out: Output folder of the runs; it need not exist.
      repair: Whether a damaged or lost metadata database is replaced first.
      json_file: File for the findings as JSON, ``-`` for standard output, None for no file.

    Returns:
      0 when runs and servers can work here, 5 when they cannot.

    Raises:
      ResourceError: The metadata database cannot be repaired.
    """
    from imgpipe.pipeline import machine
    from imgpipe.pipeline.command_line import json_file as json_files
    from imgpipe.pipeline.output import output_folder, past_runs

    json_files.check_folder("--json", json_file)
    out = past_runs.above(out)
    console = json_files.console_beside(json_file)
    if repair:  # first, so that the findings are those after the repair
        console.print(escape(output_folder.repair(out)))
    findings = [check(out) for check in (*machine.CHECKS, *output_folder.CHECKS)]
    for finding in findings:
        mark = (
            "[green]✓[/]" if finding.fit else "[bold red]✗[/]" if finding.fatal else "[yellow]![/]"
        )
        console.print(f" {mark} {finding.name:<18} {escape(finding.detail)}")
        if not finding.fit and finding.advice:
            console.print(f"   [dim]{escape(finding.advice)}[/]")
    unfit = any(finding.fatal and not finding.fit for finding in findings)
    console.print("\nnot ready: see ✗ above" if unfit else "\nready")
    if json_file:
        rows = [dataclasses.asdict(finding) for finding in findings]
        found = {"schema": SCHEMA, "out": str(out), "ready": not unfit, "findings": rows}
        json_files.write(found, json_file)
    return 5 if unfit else 0
