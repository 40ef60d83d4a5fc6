"""`imgpipe doctor`: checks this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from imgpipe.models.errors import ResourceError
from imgpipe.pipeline.command_line import options
from imgpipe.pipeline.command_line.terminal import new_console

if TYPE_CHECKING:
    from imgpipe.components.report.blocks import NamedText

app = typer.Typer()

_EXAMPLES = """Examples:\n
  imgpipe doctor
"""


@app.command(rich_help_panel=options.MACHINE, epilog=_EXAMPLES)
def doctor() -> None:
    """Check this machine, and say how to solve each problem."""
    from imgpipe.components.report.blocks import Figures, Heading, Span
    from imgpipe.pipeline.command_line.printing import print_blocks
    from imgpipe.pipeline.machine_checks import CHECKS

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
