"""`imgpipe clean`: frees space in an output folder. It needs no TensorFlow."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from imgpipe.models.errors import ResourceError
from imgpipe.pipeline.command_line import options
from imgpipe.pipeline.command_line.terminal import escape, new_console

app = typer.Typer()

_KEPT = (
    "Versions, reports and summaries are kept. The predictions of these runs, which "
    "`imgpipe compare` needs for single images, and the files in their quarantine are not."
)
_EXAMPLES = """Examples:\n
  imgpipe clean imgpipe-out\n
  imgpipe clean imgpipe-out --yes
"""


@app.command("clean", rich_help_panel=options.RUNS, epilog=_EXAMPLES)
def command(
    out: options.OutArgument = Path("imgpipe-out"),
    yes: Annotated[
        bool, typer.Option("--yes", help="Delete the files. Without it, they are only listed.")
    ] = False,
) -> None:
    """List files that an output folder no longer needs; --yes deletes them.

    Versions are never deleted.
    """
    from imgpipe.pipeline.output import lookup, output_folder

    folder = lookup.output_folder(out)
    out = folder.path
    busy = f"a run is working in {out}. Wait until it has ended, then clean."
    console = new_console()
    total = 0
    try:
        with folder.locked(busy):  # for the list too, which a working run would change
            removable, kept = folder.removable()
            for kind, paths in removable.items():
                sizes = [output_folder.size(path) for path in paths]
                total += sum(sizes)
                if paths:
                    console.print(f"[bold]{kind}[/]  {_megabytes(sum(sizes))}")
                for path, size in zip(paths, sizes, strict=True):
                    name = escape(str(path.relative_to(out)))
                    console.print(f"  {name}  [dim]{_megabytes(size)}[/]")
            if yes:
                folder.sweep()
                output_folder.remove(removable)
    except OSError as error:
        raise ResourceError(f"cannot clean {out}: {error.strerror}.") from None
    if kept:
        console.print(f"note: {escape(kept)}.")
    if not any(removable.values()):
        console.print(f"Nothing in {escape(str(out))} can be removed.")
    elif yes:
        console.print(f"{_megabytes(total)} were freed. {_KEPT}")
    else:
        console.print(
            f"{_megabytes(total)} can be freed. {_KEPT} Delete the files with: "
            f"imgpipe clean {escape(shlex.quote(str(out)))} --yes"
        )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
