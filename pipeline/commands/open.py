"""``imgpipe open``: shows the page of a run in a browser. It needs no TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from imgpipe.models.errors import ResourceError
from imgpipe.pipeline.command_line import browser, options
from imgpipe.pipeline.command_line.terminal import escape, new_console

if TYPE_CHECKING:
    from imgpipe.pipeline.output.past_runs import PastRun

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
    console.print(escape(str(page)))
    browser.show(page.as_uri(), console)


def page_of(path: Path) -> Path:
    """Return the page of a run, or that of the newest run in an output folder that has one.

    Args:
        path: Output folder, folder of versions, version, or folder of a run.

    Raises:
        ResourceError: There is no page.
    """
    from imgpipe.pipeline.output.past_runs import PAGE

    found = run_with(PAGE, path, "has a report yet")
    if not found.page.is_file():
        raise ResourceError(
            f"run {found.name} has no report: expected {found.page}. Its log is "
            f"{found.folder / 'run.log'}."
        )
    return found.page


def run_with(file: str, path: Path, done: str) -> PastRun:
    """Return the run that a path names; of an output folder, the newest one with a file.

    In contrast to `past_runs.find`, it need not have evaluated a model: a run whose data was
    refused has a report too.

    Args:
        file: Name of the file in the folder of a run.
        path: Output folder, folder of versions, version, or folder of a run.
        done: What none of the runs has done if none has the file, for the message.

    Raises:
        ResourceError: There is no such run.
    """
    from imgpipe.pipeline.output import past_runs

    out = past_runs.output_folder(path)
    if past_runs.plain(path) not in (out, out / "model"):
        return past_runs.find(path)
    chosen = [run for run in past_runs.read(out) if (run.folder / file).is_file()]
    if not chosen:
        raise ResourceError(f"no run in {out} {done}.")
    return chosen[-1]
