"""``imgpipe doctor``: is this machine fit, and what to do where it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imgpipe.pipeline import options
from imgpipe.pipeline.terminal import escape, new_console

app = typer.Typer()


@app.command(rich_help_panel=options.MACHINE)
def doctor(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[OUT]", help="Output folder of the runs.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The same, as an option.")] = Path(
        "imgpipe-out"
    ),
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Set a damaged metadata database aside and start it anew."),
    ] = False,
) -> None:
    """Say whether this machine and an output folder are fit, and what to do where they are not."""
    raise typer.Exit(run((folder or out).absolute(), repair))


def run(out: Path, repair: bool = False) -> int:
    """Print all findings.

    Args:
      out: output folder of the runs; it need not exist.
      repair: whether a damaged metadata database is set aside first.

    Returns:
      0 when a run and a server can work here, 5 when one cannot.
    """
    from imgpipe.pipeline import machine, output_folder

    console = new_console()
    if repair:
        console.print(escape(output_folder.repair(out)))
    findings = [look(out) for look in (*machine.CHECKS, *output_folder.CHECKS)]
    for finding in findings:
        mark = (
            "[green]✓[/]" if finding.fit else "[bold red]✗[/]" if finding.fatal else "[yellow]![/]"
        )
        console.print(f" {mark} {finding.name:<18} {escape(finding.detail)}")
        if not finding.fit and finding.advice:
            console.print(f"   [dim]{escape(finding.advice)}[/]")
    unfit = any(finding.fatal and not finding.fit for finding in findings)
    console.print("\nnot fit: see ✗ above" if unfit else "\nthis machine is fit")
    return 5 if unfit else 0
