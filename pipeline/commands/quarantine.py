"""``imgpipe quarantine``: lists the rejected files, and restores their original bytes.

``imgpipe review`` decides about them.
"""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.pipeline.command_line import options, output_files
from imgpipe.pipeline.command_line.terminal import escape, new_console
from imgpipe.pipeline.output import quarantine_folder

_EXAMPLES = """Examples:\n
  imgpipe quarantine list --out imgpipe-out\n
  imgpipe quarantine restore '*' --out imgpipe-out --to restored
"""

app = typer.Typer(
    name="quarantine",
    help="List and restore rejected files.",
    epilog=_EXAMPLES,
    rich_help_panel=options.DATA_AND_TRAINING,
    no_args_is_help=True,
)

_SHOWN = 12  # digits of a hash that are shown, enough to name a file
SCHEMA = 1  # of what --json writes
_OUT = typer.Option(
    "--out",
    metavar="OUT",
    help="Output folder, one of its versions or runs, or a quarantine folder.",
)
_REASON = typer.Option("--reason", metavar="NAME", help="Only files with this reason.")
_WHICH = typer.Argument(metavar="WHICH", help="Paths, patterns (cat/*.png) or content hashes.")


_LIST_EXAMPLES = """Examples:\n
  imgpipe quarantine list --out imgpipe-out\n
  imgpipe quarantine list 'cat/*.png' --out imgpipe-out --json
"""


@app.command("list", epilog=_LIST_EXAMPLES)
def list_(
    which: Annotated[list[str] | None, _WHICH] = None,
    source: Annotated[Path, _OUT] = Path("imgpipe-out"),
    reason: Annotated[str | None, _REASON] = None,
    warnings: Annotated[
        bool, typer.Option("--warnings", help="List kept files with a warning instead.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON Lines; --json - is the same.")
    ] = False,
) -> None:
    """List rejected files by reason."""
    from imgpipe.components.report.text import plural

    if as_json:  # other commands take the file of --json, for which "-" is standard output
        which = [one for one in which or () if one != "-"]
    folder = quarantine_folder.find(source)
    try:
        found = quarantine_folder.read(folder, warnings)
        rows = quarantine_folder.select(found, which or (), reason)
    except ConfigError as error:
        file = next((one for one in which or () if one.endswith(".json")), None)
        if as_json and file:
            raise ConfigError(f"{error} {options.json_is_printed(file)}") from None
        raise
    if as_json:
        for row in rows:
            values = {key: value for key, value in vars(row).items() if value}
            typer.echo(json.dumps({"schema": SCHEMA, **values}))
        return

    console = new_console()
    ordered = sorted(rows, key=lambda row: (row.reason, row.path))
    for name, of_reason in groupby(ordered, lambda row: row.reason):
        group = list(of_reason)
        console.print(f"[bold]{escape(name)}[/]  {len(group)}")
        for row in group:
            digits = row.image_hash[:_SHOWN]
            console.print(f"  {digits:<{_SHOWN}}  {escape(row.path)}  [dim]{escape(row.detail)}[/]")
    if warnings:
        what = plural(len(rows), "file with a warning", "files with a warning")
    else:
        what = plural(len(rows), "rejected file")
    console.print(f"{what} in {escape(str(folder))}")


_RESTORE_EXAMPLES = """Examples:\n
  imgpipe quarantine restore '*' --out imgpipe-out --to restored\n
  imgpipe quarantine restore --reason too_small
"""


@app.command(epilog=_RESTORE_EXAMPLES)
def restore(
    which: Annotated[list[str] | None, _WHICH] = None,
    to: Annotated[
        Path, typer.Option("--to", metavar="DIR", help="Folder to copy the files into.")
    ] = Path("restored"),
    source: Annotated[Path, _OUT] = Path("imgpipe-out"),
    reason: Annotated[str | None, _REASON] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that differ.")] = False,
) -> None:
    """Copy the original bytes of rejected files into a folder, under their paths."""
    from imgpipe.components.report.text import plural

    folder = quarantine_folder.find(source)
    console = new_console()
    copied = there = 0
    if not which and reason is None:
        raise ConfigError(
            "no files were named. Expected paths, patterns or content hashes, or --reason NAME."
        )
    for row in quarantine_folder.select(quarantine_folder.read(folder), which or (), reason):
        if not row.stored:
            console.print(f"[yellow]not stored[/] {escape(row.path)}: {escape(row.detail)}")
        elif _copy(_inside(folder, row.stored), _inside(to, row.path), force):
            copied += 1
        else:
            there += 1
    rest = f"; already there: {there}" if there else ""
    console.print(f"{plural(copied, 'file')} copied into {escape(str(to))}{rest}")


def _inside(folder: Path, path: str) -> Path:
    """Return `path` below `folder`, and refuse a path that leads out of it."""
    # The paths come from a file, which may have been edited, and from the names in archives.
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts:
        raise ConfigError(f"{_plain(path)} leads out of {folder}, so it is not restored.")
    return folder / parts


def _copy(source: Path, target: Path, force: bool) -> bool:
    """Copy a file atomically; return whether it was not there yet."""
    try:
        content = source.read_bytes()
    except OSError as error:
        raise ResourceError(f"cannot read {source}: {error.strerror}. Run again.") from None
    if target.is_file() and target.read_bytes() == content:
        return False
    if target.exists() and not force:
        raise ConfigError(
            f"{target} has other content. Choose another folder with --to, or use --force."
        )
    output_files.write(target, content)
    return True


def _plain(text: str) -> str:
    """Escape the parts of a name that are not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()
