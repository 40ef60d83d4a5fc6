"""``imgpipe open``: shows the page of a run in a browser. It needs no TensorFlow."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from imgpipe.models.errors import ResourceError
from imgpipe.pipeline.command_line import options
from imgpipe.pipeline.command_line.terminal import escape, new_console

if TYPE_CHECKING:
    from rich.console import Console

    from imgpipe.pipeline.json_formats import runs as formats

app = typer.Typer()

SCHEMA = 1  # of what --json writes

_EXAMPLES = """Examples:\n
  imgpipe open imgpipe-out\n
  imgpipe open imgpipe-out/runs/20260131-140559\n
  imgpipe open imgpipe-out/model/3
"""


@app.command("open", rich_help_panel=options.RUNS, epilog=_EXAMPLES)
def command(
    out: options.OutArgument = Path("imgpipe-out"), json_file: options.JsonListOption = None
) -> None:
    """Open the report of a run in a browser: the newest run, or one by its folder or version."""
    raise typer.Exit(run(out, json_file))


def run(path: Path, json_file: str | None = None) -> int:
    """Print the path of a page, and open it in a browser if there is a display.

    Args:
      path: Folder of a run; a version, for the run that pushed it; or an output folder, for its
        newest run with a page.
      json_file: File for the path as JSON, ``-`` for standard output, None for no file.

    Returns:
      The exit code.

    Raises:
      ResourceError: There is no such run, or it has no page.
    """
    from imgpipe.pipeline.command_line import json_file as json_files

    json_files.check_folder("--json", json_file)
    page = page_of(path)
    console = json_files.console_beside(json_file)
    console.print(escape(str(page)))
    opened = show(page.as_uri(), console)
    if json_file:
        found: formats.Opened = {"schema": SCHEMA, "page": str(page), "opened": opened}
        json_files.write(found, json_file)
    return 0


def show(address: str, console: Console | None = None) -> bool:
    """Open an address in a browser; say so when there is none.

    Args:
      address: Address of a page.
      console: Where it is said; None for standard output.

    Returns:
      Whether a browser was asked to show it.
    """
    import webbrowser

    console = console or new_console()
    if _has_display():
        try:
            webbrowser.get()
        except webbrowser.Error:
            console.print("No browser was found. Open the page in one.")
        else:
            return webbrowser.open(address)
    else:
        console.print("There is no display here. Open the page in a browser.")
    return False


def page_of(path: Path) -> Path:
    """Return the page of a run, or that of the newest run in an output folder that has one.

    Args:
      path: Output folder, folder of versions, version, or folder of a run.

    Raises:
      ResourceError: There is no page.
    """
    from imgpipe.pipeline.output import past_runs

    out = past_runs.output_folder(path)
    # `past_runs.find` takes the newest run with a model; a run that was refused has a page too.
    if path.expanduser().absolute() in (out, out / "model"):
        chosen = [run for run in past_runs.read(out) if run.page.is_file()]
        if not chosen:
            raise ResourceError(f"no run in {out} has a page yet.")
        return chosen[-1].page
    found = past_runs.find(path)
    if not found.page.is_file():
        raise ResourceError(
            f"run {found.name} has no page: expected {found.page}. Its log is "
            f"{found.folder / 'run.log'}."
        )
    return found.page


def _has_display() -> bool:
    """Whether a browser can be shown; without this check, one for terminals would be started."""
    if not sys.platform.startswith("linux"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
