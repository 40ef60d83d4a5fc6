"""`imgpipe doctor`: checks this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.models.errors import ResourceError
from imgpipe.models.machine.system import install_extra
from imgpipe.pipeline.command_line import options
from imgpipe.pipeline.command_line.terminal import new_console

if TYPE_CHECKING:
    from imgpipe.components.report.blocks import NamedText, Table

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
    from imgpipe.components.report.blocks import Figures, Heading, Span
    from imgpipe.pipeline.command_line.printing import print_blocks
    from imgpipe.pipeline.machine_checks import CHECKS

    if presets:
        print_blocks(new_console(), [_presets()])
        return
    rows: list[NamedText] = []
    findings = [check() for check in CHECKS]
    for finding in findings:
        mark = Span("!", "warn") if finding["remedies"] else Span("✓", "good")
        if finding["decides"]:  # no run and no server can work
            mark = Span("✗", "bad")
        rows.append((finding["title"], (mark, f" {finding['sentence']}")))
        rows += [("", Span(f"  {way}", "muted")) for way in finding["remedies"]]
    unfit = any(finding["decides"] for finding in findings)
    ending = Heading("not ready: see ✗ above" if unfit else "ready")
    print_blocks(new_console(), [Figures(rows), ending])
    if unfit:
        raise typer.Exit(ResourceError.exit_code)


def _presets() -> Table:
    """Return the published presets of images with size and licence."""
    from imgpipe.components.report.blocks import Table
    from imgpipe.models.backbones import presets

    if not presets.installed():
        raise ResourceError(f"KerasHub is not installed. Install it with: {install_extra('hub')}")
    rows = []
    for name, preset in presets.published().items():
        millions = preset.parameters / 1e6
        size = f"{millions:.1f} M parameters, {4 * millions:.0f} MB"
        rows.append((f"{presets.PREFIX}{name}", size, preset.licence))
    return Table("Presets", ("preset", "size", "licence"), rows)
