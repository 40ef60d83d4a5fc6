"""``imgpipe quarantine``: lists, restores and accepts rejected files.

`list` shows the files, `restore` copies their original bytes into a folder, and `accept` writes
overrides by content hash into the file that `judge.overrides` names, which the next run applies.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.files import json_object
from imgpipe.models.files.atomic_write import atomic_write
from imgpipe.pipeline.command_line import options
from imgpipe.pipeline.command_line.terminal import escape, new_console
from imgpipe.pipeline.output import run_folders
from imgpipe.pipeline.output.run_folders import RUNS

if TYPE_CHECKING:
    from imgpipe.components.image_filter import overrides
    from imgpipe.pipeline.json_formats import data as formats

_EXAMPLES = """Examples:\n
  imgpipe quarantine list --out imgpipe-out\n
  imgpipe quarantine restore --out imgpipe-out --to restored\n
  imgpipe quarantine accept 'cat/*.png' --out imgpipe-out
"""

app = typer.Typer(
    name="quarantine",
    help="List, restore and accept rejected files.",
    epilog=_EXAMPLES,
    rich_help_panel=options.DATA_AND_TRAINING,
    no_args_is_help=True,
)

_MANIFEST, _WARNINGS = "manifest.jsonl", "warnings.jsonl"  # written by ImageFilter
_OVERRIDES = Path("overrides.toml")
_HASH = re.compile(r"[0-9a-f]{6,64}")
_SHOWN = 12  # digits of a hash that are shown, enough to name a file
SCHEMA = 1  # of what --json writes
_OUT = typer.Option(
    "--out",
    metavar="OUT",
    help="Output folder, one of its versions or runs, or a quarantine folder.",
)
_FROM = options.old_spelling("--from", "--out")
_REASON = typer.Option("--reason", metavar="NAME", help="Only files with this reason.")
_WHICH = typer.Argument(help="Paths, patterns (cat/*.png) or content hashes.")


@dataclass(frozen=True)
class Row:
    """A line of the manifest or of the list of warnings."""

    path: str
    image_hash: str
    reason: str
    detail: str
    label: str = ""
    split: str = ""
    override: str = ""
    stored: str = ""


_LIST_EXAMPLES = """Examples:\n
  imgpipe quarantine list --out imgpipe-out\n
  imgpipe quarantine list 'cat/*.png' --out imgpipe-out --json
"""


@app.command("list", epilog=_LIST_EXAMPLES)
def list_(
    which: Annotated[list[str] | None, _WHICH] = None,
    source: Annotated[Path, _OUT] = Path("imgpipe-out"),
    old: Annotated[Path | None, _FROM] = None,
    reason: Annotated[str | None, _REASON] = None,
    warnings: Annotated[
        bool, typer.Option("--warnings", help="List kept files with a warning instead.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON Lines; --json - is the same.")
    ] = False,
) -> None:
    """List rejected files by reason."""
    if as_json:  # other commands take the file of --json, for which "-" is standard output
        which = [one for one in which or () if one != "-"]
    folder = find(old or source)
    rows = select(read(folder, warnings), which or (), reason)
    console = new_console()
    if as_json:
        for row in rows:
            found = {key: value for key, value in vars(row).items() if value}
            typer.echo(json.dumps({"schema": SCHEMA, **found}))
        return

    ordered = sorted(rows, key=lambda row: (row.reason, row.path))
    for name, of_reason in groupby(ordered, lambda row: row.reason):
        group = list(of_reason)
        console.print(f"[bold]{escape(name)}[/]  {len(group)}")
        for row in group:
            digits = row.image_hash[:_SHOWN]
            console.print(f"  {digits:<{_SHOWN}}  {escape(row.path)}  [dim]{escape(row.detail)}[/]")
    what = "files with a warning" if warnings else "rejected files"
    console.print(f"{len(rows)} {what} in {escape(str(folder))}")


_RESTORE_EXAMPLES = """Examples:\n
  imgpipe quarantine restore --out imgpipe-out --to restored\n
  imgpipe quarantine restore --reason too_small
"""


@app.command(epilog=_RESTORE_EXAMPLES)
def restore(
    which: Annotated[list[str] | None, _WHICH] = None,
    to: Annotated[
        Path, typer.Option("--to", metavar="DIR", help="Folder to copy the files into.")
    ] = Path("restored"),
    source: Annotated[Path, _OUT] = Path("imgpipe-out"),
    old: Annotated[Path | None, _FROM] = None,
    reason: Annotated[str | None, _REASON] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that differ.")] = False,
    json_file: options.JsonListOption = None,
) -> None:
    """Copy the original bytes of rejected files into a folder, under their paths."""
    from imgpipe.pipeline.command_line import json_file as json_files

    json_files.check_folder("--json", json_file)
    folder = find(old or source)
    console = json_files.console_beside(json_file)
    copied, missing = [], []
    for row in _selected(folder, which, reason):
        if not row.stored:
            console.print(f"[yellow]not stored[/] {escape(row.path)}: {escape(row.detail)}")
            missing.append(row.path)
        elif _copy(_inside(folder, row.stored), _inside(to, row.path), force):
            copied.append(row.path)
    console.print(f"{len(copied)} files copied into {escape(str(to))}")
    if json_file:
        restored: formats.Restored = {
            "schema": SCHEMA,
            "quarantine": str(folder.absolute()),
            "to": str(to.absolute()),
            "copied": copied,
            "not_stored": missing,
        }
        json_files.write(restored, json_file)


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
    old: Annotated[Path | None, _FROM] = None,
    reason: Annotated[str | None, _REASON] = None,
    warnings: Annotated[
        bool, typer.Option("--warnings", help="Select from kept files with a warning instead.")
    ] = False,
    json_file: options.JsonListOption = None,
) -> None:
    """Accept rejected files in later runs, by adding overrides for their content."""
    from imgpipe.components.image_filter import checks, overrides
    from imgpipe.pipeline.command_line import json_file as json_files

    json_files.check_folder("--json", json_file)
    source = old or source
    console = json_files.console_beside(json_file)
    decisions: list[overrides.Override] = []
    impossible: list[formats.Skipped] = []
    for row in _selected(find(source), which, reason, warnings):
        if why := checks.obstacle(row.reason, row.override, bool(label)):
            console.print(f"[yellow]not possible[/] {escape(row.path)}: {escape(why)}")
            impossible.append({"path": row.path, "why": why})
        else:
            decisions.append(_acceptance(row, label, note))
    if not decisions:
        raise ConfigError("none of these files can be accepted; the reasons are printed above.")
    file = to or _overrides_of_newest_run(source) or _OVERRIDES
    written = overrides.add(file, decisions)
    console.print(
        f"{written} overrides added to {escape(str(file))}; review and commit the file, then run:"
    )
    console.print(f"  imgpipe run … --set judge.overrides={escape(str(file))}")
    if json_file:
        accepted: formats.AcceptedFiles = {
            "schema": SCHEMA,
            "file": str(file.absolute()),
            "added": written,
            "accepted": [decision.path for decision in decisions],
            "not_possible": impossible,
        }
        json_files.write(accepted, json_file)


def _acceptance(row: Row, label: str, note: str) -> overrides.Override:
    """Return the override that accepts a file, or relabels it if a label is given."""
    from imgpipe.components.image_filter import overrides

    verdict: overrides.OverrideVerdict = "relabel" if label else "accept"
    words = f"{row.reason}; {note}" if note else row.reason
    return overrides.Override(row.image_hash, verdict, label, _plain(row.path), words)


def find(path: Path) -> Path:
    """Find the quarantine folder of a run.

    Args:
      path: Output folder of the runs, its folder of versions, a version, folder of a run, or a
        quarantine folder.

    Returns:
      `path` itself, or the folder that the newest run in it wrote.

    Raises:
      ResourceError: There is none.
    """
    if (path / _MANIFEST).is_file():
        return path
    path = _above_versions(path)
    for run in _runs(path):
        folder = of_run(run)
        if folder is not None:
            return folder
    found = [manifest.parent for manifest in path.glob(f"**/quarantine/*/{_MANIFEST}")]
    if not found:
        raise ResourceError(f"no quarantine in {path}. Name the output folder of a run: --out OUT.")
    # Nothing says which run wrote them, so their times decide.
    return max(found, key=lambda folder: folder.stat().st_mtime)


def _above_versions(path: Path) -> Path:
    """Return the output folder for its folder of versions or one version, otherwise the path."""
    absolute = path.expanduser().absolute()
    if (absolute / RUNS).is_dir() or RUNS in (absolute.name, absolute.parent.name):
        return path
    above = (absolute.parent, absolute.parent.parent)
    return next((one for one in above if (one / RUNS).is_dir()), path)


def _runs(path: Path) -> list[Path]:
    """Return `path` itself, then the folders of the runs in it, the newest first."""
    return [path, *reversed(run_folders.in_order(path.glob(f"{RUNS}/*/")))]


def of_run(run: Path) -> Path | None:
    """Return the quarantine that the facts of a run name, None if it no longer exists."""
    try:
        uri = json_object.read(run / "facts.json")["quarantine"]
        folder = Path(str(uri).removeprefix("file://"))
        return folder if (folder / _MANIFEST).is_file() else None
    except (OSError, ValueError, KeyError):  # a path with a null byte is a ValueError
        return None


def _overrides_of_newest_run(path: Path) -> Path | None:
    """Return the overrides file of the newest run."""
    from imgpipe.pipeline.configuration import config

    for run in _runs(path):
        if (run / "config.toml").is_file():
            return config.load(run / "config.toml").overrides_file
    return None


def read(folder: Path, warnings: bool = False) -> list[Row]:
    """Read the manifest of a quarantine.

    Args:
      folder: The quarantine folder.
      warnings: Whether to read the list of kept files with a warning instead.

    Returns:
      Its rows, in the order of the file.

    Raises:
      ResourceError: A line is damaged.
    """
    file = folder / (_WARNINGS if warnings else _MANIFEST)
    known = {field.name for field in fields(Row)}
    rows = []
    for number, line in enumerate(file.read_bytes().splitlines() if file.is_file() else (), 1):
        try:
            values: dict[str, Any] = json.loads(line)
            row = Row(**{key: str(value) for key, value in values.items() if key in known})
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ResourceError(
                f"{file}, line {number}: expected a JSON object that a run wrote, received "
                f"{line[:80]!r} ({error}). Restore the file, or run again."
            ) from None
        rows.append(row)
    return rows


def select(rows: Iterable[Row], which: Sequence[str], reason: str | None) -> list[Row]:
    """Select rows.

    Args:
      rows: Rows of a quarantine.
      which: Paths, patterns or content hashes; empty for all rows.
      reason: Only rows with this reason; None for all.

    Raises:
      ConfigError: No row has the reason, or a word matches no row.
    """
    everything = list(rows)
    reasons = sorted({row.reason for row in everything})
    if reason is not None and reason not in reasons:
        raise ConfigError(
            f"no file has the reason {reason!r}. The reasons are: {', '.join(reasons) or 'none'}."
        )
    found = [row for row in everything if reason in (None, row.reason)]
    if missing := [word for word in which if not any(_matches(row, word) for row in found)]:
        raise ConfigError(
            f"not in quarantine: {', '.join(missing)}. `imgpipe quarantine list` lists all files."
        )
    return [row for row in found if not which or any(_matches(row, word) for word in which)]


def _matches(row: Row, word: str) -> bool:
    if _HASH.fullmatch(word) and row.image_hash.startswith(word):
        return True
    return word == row.path or fnmatch.fnmatchcase(row.path, word)


def _selected(
    folder: Path, which: Sequence[str] | None, reason: str | None, warnings: bool = False
) -> list[Row]:
    if not which and reason is None:
        raise ConfigError(
            "no files were named. Expected paths, patterns or content hashes, or --reason NAME."
        )
    return select(read(folder, warnings), which or (), reason)


def _inside(folder: Path, path: str) -> Path:
    """Return `path` below `folder`, and refuse a path that leads out of it."""
    # The paths come from a file, which may have been edited, and from the names in archives.
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts:
        raise ConfigError(f"{_plain(path)} leads out of {folder}, so it is not restored.")
    return folder / parts


def _copy(source: Path, target: Path, force: bool) -> bool:
    """Copy a file atomically; return whether it was not there yet."""
    content = source.read_bytes()
    if target.is_file() and target.read_bytes() == content:
        return False
    if target.exists() and not force:
        raise ConfigError(
            f"{target} has other content. Choose another folder with --to, or use --force."
        )
    atomic_write(target, content)
    return True


def _plain(text: str) -> str:
    """Escape the parts of a name that are not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()
