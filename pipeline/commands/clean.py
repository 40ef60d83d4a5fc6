"""``imgpipe clean``: frees space in an output folder. It needs no TensorFlow."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.models.errors import ResourceError
from imgpipe.pipeline.command_line import options
from imgpipe.pipeline.command_line.terminal import escape, new_console

if TYPE_CHECKING:
    from imgpipe.pipeline.output.removable_files import Removable

app = typer.Typer()

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
    from imgpipe.pipeline.output import places, removable_files, run_lock

    out = places.output_folder(out)
    busy = f"a run is working in {out}. Wait until it has ended, then clean."
    try:
        with run_lock.locked(out, busy):  # for the list too, which a working run would change
            found, kept = removable_files.find(out)
            if yes:
                for one in found:
                    one.remove()
    except OSError as error:
        raise ResourceError(f"cannot clean {out}: {error.strerror}.") from None
    _print(out, found, kept, yes)


def _print(out: Path, found: Sequence[Removable], kept: str, removed: bool) -> None:
    console = new_console()
    for kind in dict.fromkeys(one.kind for one in found):
        group = [one for one in found if one.kind == kind]
        size = _megabytes(sum(one.bytes for one in group))
        console.print(f"[bold]{kind}[/]  {size}")
        for one in group:
            path = escape(str(one.path.relative_to(out)))
            console.print(f"  {path}  [dim]{_megabytes(one.bytes)}[/]")
    if kept:
        console.print(f"note: {escape(kept)}.")
    total = _megabytes(sum(one.bytes for one in found))
    if not found:
        console.print(f"Nothing in {escape(str(out))} can be removed.")
    elif removed:
        console.print(f"{total} were freed. Versions, reports and summaries were kept.")
    else:
        console.print(
            f"{total} can be freed. Versions, reports and summaries are kept. Delete the files "
            f"with: imgpipe clean {escape(shlex.quote(str(out)))} --yes"
        )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
