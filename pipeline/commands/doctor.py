"""`imgpipe doctor`: checks this machine and the output folder of earlier runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imgpipe.models.errors import ResourceError
from imgpipe.pipeline.command_line import options
from imgpipe.pipeline.command_line.terminal import escape, new_console

app = typer.Typer()

_EXAMPLES = """Examples:\n
  imgpipe doctor\n
  imgpipe doctor imgpipe-out
"""


@app.command(rich_help_panel=options.MACHINE, epilog=_EXAMPLES)
def doctor(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="Output folder of the runs, one of its versions, or one of its runs.",
        ),
    ] = Path("imgpipe-out"),
) -> None:
    """Check this machine and an output folder, and say how to solve each problem."""
    from imgpipe.pipeline.doctor import machine, output_folder
    from imgpipe.pipeline.output import places

    folder = places.above(folder)
    console = new_console()
    findings = [check(folder) for check in (*machine.CHECKS, *output_folder.CHECKS)]
    for finding in findings:
        mark = (
            "[green]✓[/]" if finding.fit else "[bold red]✗[/]" if finding.fatal else "[yellow]![/]"
        )
        console.print(f" {mark} {finding.name:<18} {escape(finding.detail)}")
        if not finding.fit and finding.advice:
            console.print(f"   [dim]{escape(finding.advice)}[/]")
    unfit = any(finding.fatal and not finding.fit for finding in findings)
    console.print("\nnot ready: see ✗ above" if unfit else "\nready")
    if unfit:
        raise typer.Exit(ResourceError.exit_code)
