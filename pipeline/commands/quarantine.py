"""``imgpipe quarantine``: lists, restores and accepts rejected files.

`list` shows the files, `restore` copies their original bytes into a folder, and `accept` writes
overrides by content hash into the file that `judge.overrides` names, which the next run applies.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.pipeline.command_line import options, output_files
from imgpipe.pipeline.command_line.terminal import escape, new_console
from imgpipe.pipeline.output import quarantine_folder
from imgpipe.pipeline.output.quarantine_folder import Row

if TYPE_CHECKING:
    from imgpipe.components.image_filter import overrides

_EXAMPLES = """Examples:\n
  imgpipe quarantine list --out imgpipe-out\n
  imgpipe quarantine restore '*' --out imgpipe-out --to restored\n
  imgpipe quarantine accept 'cat/*.png' --out imgpipe-out
"""

app = typer.Typer(
    name="quarantine",
    help="List, restore and accept rejected files.",
    epilog=_EXAMPLES,
    rich_help_panel=options.DATA_AND_TRAINING,
    no_args_is_help=True,
)

_OVERRIDES = Path("overrides.toml")
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
    for row in _selected(folder, which, reason):
        if not row.stored:
            console.print(f"[yellow]not stored[/] {escape(row.path)}: {escape(row.detail)}")
        elif _copy(_inside(folder, row.stored), _inside(to, row.path), force):
            copied += 1
        else:
            there += 1
    rest = f"; already there: {there}" if there else ""
    console.print(f"{plural(copied, 'file')} copied into {escape(str(to))}{rest}")


_LABEL = typer.Option(
    "--label", metavar="CLASS", help="Also relabel the files: the class that they show."
)
_NOTE = typer.Option("--note", help="Reason, for readers of the overrides file.")
_OVERRIDES_FILE = typer.Option(
    "--to", metavar="FILE", help="Overrides file. Default: that of the run, or overrides.toml."
)
_ACCEPT_EXAMPLES = """Examples:\n
  imgpipe quarantine accept cat/17.jpg --out imgpipe-out\n
  imgpipe quarantine accept cat/17.jpg --label dog --note 'a dog'
"""


@app.command(epilog=_ACCEPT_EXAMPLES)
def accept(
    which: Annotated[list[str] | None, _WHICH] = None,
    label: Annotated[str, _LABEL] = "",
    note: Annotated[str, _NOTE] = "",
    to: Annotated[Path | None, _OVERRIDES_FILE] = None,
    source: Annotated[Path, _OUT] = Path("imgpipe-out"),
    reason: Annotated[str | None, _REASON] = None,
    warnings: Annotated[
        bool, typer.Option("--warnings", help="Select from kept files with a warning instead.")
    ] = False,
) -> None:
    """Accept rejected files in later runs, by adding overrides for their content."""
    from imgpipe.components.image_filter import checks, overrides
    from imgpipe.components.report.text import plural
    from imgpipe.models import feature_names as names
    from imgpipe.pipeline.review import questions

    console = new_console()
    decisions: list[overrides.Override] = []
    for row in _selected(quarantine_folder.find(source), which, reason, warnings):
        why = checks.obstacle(row.reason, row.override, bool(label))
        if label and row.split == names.TEST:
            why = why or questions.TEST_LABEL
        if why:
            console.print(f"[yellow]not possible[/] {escape(row.path)}: {escape(why)}")
        else:
            decisions.append(_acceptance(row, label, note))
    file = to or _overrides_of_newest_run(source) or _OVERRIDES
    written = overrides.add(file, decisions) if decisions else 0
    if not decisions:
        raise ConfigError("none of these files can be accepted; the reasons are printed above.")
    console.print(
        f"{plural(written, 'override')} added to {escape(str(file))}; review and commit the file."
    )
    console.print("Add this to the command of your run:")
    option = f"--set judge.overrides={shlex.quote(str(file))}"
    console.print(f"  {escape(option)}", soft_wrap=True)


def _acceptance(row: Row, label: str, note: str) -> overrides.Override:
    """Return the override that accepts a file, or relabels it if a label is given."""
    from imgpipe.components.image_filter import overrides

    verdict: overrides.OverrideVerdict = "relabel" if label else "accept"
    words = f"{row.reason}; {note}" if note else row.reason
    return overrides.Override(row.image_hash, verdict, label, _plain(row.path), words)


def _overrides_of_newest_run(path: Path) -> Path | None:
    """Return the overrides file of the newest run."""
    from imgpipe.pipeline.configuration import config
    from imgpipe.pipeline.output import past_runs

    for run in quarantine_folder.runs(path):
        if (run / "config.toml").is_file():
            return past_runs.overrides_file(config.load(run / "config.toml"), run.parent.parent)
    return None


def _selected(
    folder: Path, which: Sequence[str] | None, reason: str | None, warnings: bool = False
) -> list[Row]:
    if not which and reason is None:
        raise ConfigError(
            "no files were named. Expected paths, patterns or content hashes, or --reason NAME."
        )
    return quarantine_folder.select(quarantine_folder.read(folder, warnings), which or (), reason)


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
