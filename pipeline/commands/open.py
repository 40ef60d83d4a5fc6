"""``imgpipe open``: shows the page of a run in a browser. It needs no TensorFlow."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import typer

from imgpipe.models.errors import ResourceError
from imgpipe.pipeline import options
from imgpipe.pipeline.terminal import escape, new_console

app = typer.Typer()

_EXAMPLES = """Examples:\n
  imgpipe open imgpipe-out\n
  imgpipe open imgpipe-out/runs/20260131-140559\n
  imgpipe open imgpipe-out/model/3
"""


@app.command("open", rich_help_panel=options.RUNS, epilog=_EXAMPLES)
def command(out: options.OutArgument = Path("imgpipe-out")) -> None:
    """Open the page of a run in a browser: of the newest one, of one by its folder or version."""
    raise typer.Exit(run(out))


def run(path: Path) -> int:
    """Print the path of a page, and open it in a browser if there is a display.

    Args:
      path: Folder of a run; a version, for the run that pushed it; or an output folder, for its
        newest run with a page.

    Returns:
      The exit code.

    Raises:
      ResourceError: There is no such run, or it has no page.
    """
    page = _page(path)
    new_console().print(escape(str(page)))
    show(page.as_uri())
    return 0


def show(address: str) -> None:
    """Open an address in a browser; say so when there is none.

    Args:
      address: Address of a page.
    """
    import webbrowser

    console = new_console()
    if _has_display():
        try:
            webbrowser.get()
        except webbrowser.Error:
            console.print("No browser was found. Open the page in one.")
        else:
            webbrowser.open(address)
    else:
        console.print("There is no display here. Open the page in a browser.")


def _page(path: Path) -> Path:
    from imgpipe.pipeline import past_runs

    out = past_runs.output_folder(path)
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
