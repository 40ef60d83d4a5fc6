"""`imgpipe clean`: frees space in an output folder. It needs no TensorFlow."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from imgpipe.models.errors import ResourceError
from imgpipe.pipeline.command_line import options
from imgpipe.pipeline.command_line.terminal import new_console, say

app = typer.Typer()

_KEPT = (
    "Versions, reports and results are kept. The predictions of these runs, which "
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
    from imgpipe.components.report.blocks import Heading, Listed, ResultBlock, Span
    from imgpipe.pipeline.command_line.printing import print_blocks
    from imgpipe.pipeline.output import output_folder

    folder = output_folder.OutputFolder.find(out)
    out = folder.path
    busy = f"a run is working in {out}. Wait until it has ended, then clean."
    blocks: list[ResultBlock] = []
    total = 0
    console = new_console()
    try:
        with folder.locked(busy):  # for the list too, which a working run would change
            removable, kept = folder.removable()
            for kind, paths in removable.items():
                sizes = {str(path.relative_to(out)): output_folder.size(path) for path in paths}
                of_kind = sum(sizes.values())
                total += of_kind
                shown = [(f"{name}  ", Span(_megabytes(sizes[name]), "muted")) for name in sizes]
                if paths:
                    blocks += [Heading(f"{kind}  {_megabytes(of_kind)}"), Listed(shown)]
            print_blocks(console, blocks)
            if yes:
                folder.sweep()
                output_folder.remove(removable)
    except OSError as error:
        raise ResourceError(f"cannot clean {out}: {error.strerror}.") from None
    if kept:
        say(console, f"note: {kept}.")
    if not any(removable.values()):
        say(console, f"Nothing in {out} can be removed.")
    elif yes:
        say(console, f"{_megabytes(total)} were freed. {_KEPT}")
    else:
        command = f"imgpipe clean {shlex.quote(str(out))} --yes"
        freed = f"{_megabytes(total)} can be freed. {_KEPT}"
        say(console, f"{freed} Delete the files with: {command}")


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
