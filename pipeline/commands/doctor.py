"""`imgpipe doctor`: checks this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.models.errors import ResourceError
from imgpipe.models.machine.packages import install_extra
from imgpipe.pipeline.command_line import options
from imgpipe.pipeline.command_line.terminal import escape, new_console

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer()

_EXAMPLES = """Examples:\n
  imgpipe doctor\n
  imgpipe doctor --presets
"""


@app.command(rich_help_panel=options.MACHINE, epilog=_EXAMPLES)
def doctor(
    presets: Annotated[
        bool,
        typer.Option("--presets", help="List the presets of KerasHub for model.backbone instead."),
    ] = False,
) -> None:
    """Check this machine, and say how to solve each problem."""
    from imgpipe.pipeline.doctor import machine

    console = new_console()
    if presets:
        _list_presets(console)
        return
    findings = [check() for check in machine.CHECKS]
    for finding in findings:
        mark = "[yellow]![/]" if finding["remedies"] else "[green]✓[/]"
        if finding["decides"]:  # no run and no server can work
            mark = "[bold red]✗[/]"
        console.print(f" {mark} {finding['title']:<18} {escape(finding['sentence'])}")
        for way in finding["remedies"]:
            console.print(f"   [dim]{escape(way)}[/]")
    unfit = any(finding["decides"] for finding in findings)
    console.print("\nnot ready: see ✗ above" if unfit else "\nready")
    if unfit:
        raise typer.Exit(ResourceError.exit_code)


def _list_presets(console: Console) -> None:
    """Print the published presets of images with size and licence."""
    from imgpipe.models.backbones import presets

    if not presets.installed():
        raise ResourceError(f"KerasHub is not installed. Install it with: {install_extra('hub')}")
    for name, preset in presets.published().items():
        millions = preset.parameters / 1e6
        size = f"{millions:8.1f} M parameters {4 * millions:8.0f} MB"
        console.print(f"{presets.PREFIX}{name:<46} {size}  {preset.licence}")
