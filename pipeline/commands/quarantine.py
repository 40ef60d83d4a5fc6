"""`imgpipe quarantine`: lists the rejected files, and restores their original bytes.

`imgpipe review` decides about them.
"""

from __future__ import annotations

import fnmatch
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.files.json_object import SCHEMA
from imgpipe.pipeline.command_line import options, output_files
from imgpipe.pipeline.command_line.terminal import escape, new_console

if TYPE_CHECKING:
    from imgpipe.components.image_filter.judge.check import Row
    from imgpipe.pipeline.json_formats import QuarantineRow

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

_OUT = typer.Option(
    "--out",
    metavar="OUT",
    help="Output folder, one of its versions or runs, or a quarantine folder.",
)
_REASON = typer.Option("--reason", metavar="NAME", help="Only files with this reason.")
_WHICH = typer.Argument(metavar="WHICH", help="Paths or patterns (cat/*.png).")


@app.command("list", epilog=_EXAMPLES)
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
    from imgpipe.components.common.formatting import plural

    if as_json:  # other commands take the file of --json, for which "-" is standard output
        which = [argument for argument in which or () if argument != "-"]
    folder = quarantine_folder(source)
    rows = _select(read(folder, warnings), which or (), reason)
    if as_json:
        for row in rows:
            listed: QuarantineRow = {"schema": SCHEMA, **row}
            typer.echo(json.dumps(listed))
        return

    console = new_console()
    for name, number in sorted(Counter(row["reason"] for row in rows).items()):
        console.print(f"[bold]{escape(name)}[/]  {number}")
        of_reason = [row for row in rows if row["reason"] == name]
        for row in sorted(of_reason, key=lambda row: row["path"]):
            console.print(f"  {escape(row['path'])}  [dim]{escape(row['detail'])}[/]")
    what = plural(len(rows), "file") + (" with a warning" if warnings else " rejected")
    console.print(f"{what} in {escape(str(folder))}")


@app.command(epilog=_EXAMPLES)
def restore(
    which: Annotated[list[str] | None, _WHICH] = None,
    to: Annotated[
        Path, typer.Option("--to", metavar="DIR", help="Folder to copy the files into.")
    ] = Path("restored"),
    source: Annotated[Path, _OUT] = Path("imgpipe-out"),
    reason: Annotated[str | None, _REASON] = None,
) -> None:
    """Copy the original bytes of rejected files into a folder, under their paths."""
    from imgpipe.components.common.formatting import plural

    folder = quarantine_folder(source)
    console = new_console()
    if not which and reason is None:
        raise ConfigError("no files were named. Expected paths or patterns, or --reason NAME.")
    copied = 0
    for row in _select(read(folder), which or (), reason):
        if row["stored"]:
            _copy(_inside(folder, row["stored"]), _inside(to, row["path"]))
            copied += 1
        else:
            console.print(f"[yellow]not stored[/] {escape(row['path'])}: {escape(row['detail'])}")
    console.print(f"{plural(copied, 'file')} copied into {escape(str(to))}")


def quarantine_folder(path: Path) -> Path:
    """Find the quarantine folder of a run.

    Args:
        path: A quarantine folder, folder of a run, version, or output folder for its newest run
            that has one.

    Raises:
        ResourceError: There is none.
    """
    from imgpipe.components.image_filter.quarantine_files import MANIFEST
    from imgpipe.pipeline.output import lookup
    from imgpipe.pipeline.output.output_folder import RUNS, OutputFolder, plain

    path = plain(path)
    if (path / MANIFEST).is_file():
        return path
    if not (OutputFolder.above(path).path / RUNS).is_dir():
        # The folder of a run on Kubeflow holds its artifacts itself.
        for manifest in path.rglob(f"quarantine/*/{MANIFEST}"):
            return manifest.parent
    run = lookup.run(path, lambda run: run.quarantine, "has a quarantine")
    if run.quarantine is None:
        raise ResourceError(
            f"run {run.name} has no quarantine: it made none, or it was removed (run.keep)."
        )
    return run.quarantine


def read(folder: Path, warnings: bool = False) -> list[Row]:
    """Read the rejected files of a quarantine, by path.

    Args:
        folder: The quarantine folder.
        warnings: Whether to read the kept files with a warning instead.

    Raises:
        ResourceError: The table of images is missing or damaged.
    """
    from imgpipe.components.image_filter import image_table

    images = image_table.read_found(str(folder))
    return images.warned if warnings else images.rejected


def _select(rows: Sequence[Row], which: Sequence[str], reason: str | None) -> list[Row]:
    """Select the rows of a reason whose path one of the words matches; none for all.

    Raises:
        ConfigError: No row has the reason, or a word matches no row.
    """
    of_reason = [row for row in rows if reason in (None, row["reason"])]
    if reason is not None and not of_reason:
        reasons = ", ".join(sorted({row["reason"] for row in rows})) or "none"
        raise ConfigError(f"no file has the reason {reason!r}. The reasons are: {reasons}.")
    missing = [word for word in which if not any(_matches(row, word) for row in of_reason)]
    if missing:
        raise ConfigError(
            f"not in quarantine: {', '.join(missing)}. `imgpipe quarantine list` lists all files."
        )
    if not which:
        return of_reason
    return [row for row in of_reason if any(_matches(row, word) for word in which)]


def _matches(row: Row, word: str) -> bool:
    return word == row["path"] or fnmatch.fnmatchcase(row["path"], word)


def _inside(folder: Path, path: str) -> Path:
    """Return `path` below `folder`, and refuse a path that leads out of it."""
    # The paths come from a file, which may have been edited, and from the names in archives.
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts:
        raise ConfigError(f"{path!r} leads out of {folder}, so it is not restored.")
    return folder / parts


def _copy(source: Path, target: Path) -> None:
    """Copy a file atomically; one with other content is not overwritten."""
    try:
        content = source.read_bytes()
    except OSError as error:
        raise ResourceError(f"cannot read {source}: {error.strerror}. Run again.") from None
    if target.exists() and not (target.is_file() and target.read_bytes() == content):
        raise ConfigError(f"{target} has other content. Choose another folder with --to.")
    output_files.write(target, content)
