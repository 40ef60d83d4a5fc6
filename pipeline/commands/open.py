"""`imgpipe open`: shows the page of a run in a browser. It needs no TensorFlow."""

from __future__ import annotations

from pathlib import Path

import typer

from imgpipe.models.errors import ResourceError
from imgpipe.pipeline.command_line import options, output_files
from imgpipe.pipeline.command_line.terminal import new_console, say

app = typer.Typer()

_EXAMPLES = """Examples:\n
  imgpipe open imgpipe-out\n
  imgpipe open imgpipe-out/runs/20260131-140559\n
  imgpipe open imgpipe-out/model/3
"""


@app.command("open", rich_help_panel=options.RUNS, epilog=_EXAMPLES)
def command(
    out: options.OutArgument = Path("imgpipe-out"),
) -> None:
    """Open the report of a run in a browser: the newest run, or one by its folder or version."""
    page = page_of(out)
    console = new_console()
    say(console, str(page), whole=True)
    output_files.show(page.as_uri(), console)


def page_of(path: Path) -> Path:
    """Return the page of a run, or that of the newest run in an output folder that has one."""
    from imgpipe.components.run_record.run_folder import LOG, PAGE
    from imgpipe.pipeline.output import lookup

    run = lookup.run(path, lambda run: run.report, "has a report yet")
    if run.report is None:
        page = run.folder / PAGE
        raise ResourceError(
            f"run {run.name} has no report: expected {page}. Its log is {run.folder / LOG}."
        )
    return run.report
