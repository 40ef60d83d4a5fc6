"""``imgpipe quarantine``: what was rejected, and how to overrule it.

`list` shows, `restore` copies original bytes back out, `accept` writes decisions by content hash
into the file that `judge.overrides` names; the next run follows it.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import typer

from imgpipe.models.atomic_write import atomic_write
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.pipeline import options
from imgpipe.pipeline.terminal import escape, new_console

app = typer.Typer(
    name="quarantine",
    help="Files that were rejected, and how to overrule it.",
    rich_help_panel=options.DATA_AND_TRAINING,
    no_args_is_help=True,
)

_MANIFEST, _WARNINGS = "manifest.jsonl", "warnings.jsonl"  # of `components.image_filter`
_OVERRIDES = Path("overrides.toml")
_HASH = re.compile(r"[0-9a-f]{6,64}")
_SHOWN = 12  # digits of a hash that are shown, enough for an override
_FROM = typer.Option(
    "--from", metavar="DIR", help="Output folder, folder of a run, or a quarantine itself."
)
_REASON = typer.Option("--reason", metavar="NAME", help="Only what was rejected for this.")
_WHICH = typer.Argument(help="Paths, patterns (cat/*.png) or content hashes.")


@dataclass(frozen=True)
class Row:
    """One line of the manifest, or of the warnings."""

    path: str
    image_hash: str
    reason: str
    detail: str
    label: str = ""
    split: str = ""
    override: str = ""
    stored: str = ""


@app.command("list")
def list_(
    which: Annotated[list[str] | None, _WHICH] = None,
    place: Annotated[Path, _FROM] = Path("imgpipe-out"),
    reason: Annotated[str | None, _REASON] = None,
    warnings: Annotated[
        bool, typer.Option("--warnings", help="Kept files with a warning, instead.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON Lines.")] = False,
) -> None:
    """Show what was rejected, by reason."""
    folder = find(place)
    rows = select(read(folder, warnings), which or (), reason)
    console = new_console()
    if as_json:
        for row in rows:
            typer.echo(json.dumps({key: value for key, value in vars(row).items() if value}))
        return

    for name, found in groupby(sorted(rows, key=lambda row: (row.reason, row.path)), _reason):
        group = list(found)
        console.print(f"[bold]{escape(name)}[/]  {len(group)}")
        for row in group:
            digits = row.image_hash[:_SHOWN]
            console.print(f"  {digits:<{_SHOWN}}  {escape(row.path)}  [dim]{escape(row.detail)}[/]")
    what = "files with a warning" if warnings else "rejected files"
    console.print(f"{len(rows)} {what} in {escape(str(folder))}")


@app.command()
def restore(
    which: Annotated[list[str] | None, _WHICH] = None,
    to: Annotated[
        Path, typer.Option("--to", metavar="DIR", help="Folder to copy them into.")
    ] = Path("restored"),
    place: Annotated[Path, _FROM] = Path("imgpipe-out"),
    reason: Annotated[str | None, _REASON] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that differ.")] = False,
) -> None:
    """Copy the original bytes of rejected files, under their own paths."""
    folder = find(place)
    console = new_console()
    copied = 0
    for row in _some(folder, which, reason):
        if not row.stored:
            console.print(f"[yellow]no bytes[/] {escape(row.path)}: {escape(row.detail)}")
            continue
        copied += _copy(_inside(folder, row.stored), _inside(to, row.path), force)
    console.print(f"{copied} files copied into {escape(str(to))}")


@app.command()
def accept(
    which: Annotated[list[str] | None, _WHICH] = None,
    label: Annotated[
        str, typer.Option("--label", metavar="CLASS", help="Relabel: the class it shows.")
    ] = "",
    note: Annotated[str, typer.Option("--note", help="Why; for whoever reviews the file.")] = "",
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FILE", help="Overrides file (the run's, or overrides.toml)."),
    ] = None,
    place: Annotated[Path, _FROM] = Path("imgpipe-out"),
    reason: Annotated[str | None, _REASON] = None,
    warnings: Annotated[
        bool, typer.Option("--warnings", help="Of kept files with a warning, instead.")
    ] = False,
) -> None:
    """Take rejected files after all: note it, by content, in the file of overrides."""
    from imgpipe.components.image_filter import overrides

    folder = find(place)
    console = new_console()
    decisions = []
    for row in _some(folder, which, reason, warnings):
        if why := _hopeless(row, bool(label)):
            console.print(f"[yellow]not possible[/] {escape(row.path)}: {escape(why)}")
            continue
        verdict: overrides.OverrideVerdict = "relabel" if label else "accept"
        words = f"{row.reason}; {note}" if note else row.reason
        path = _plain(row.path)
        decisions.append(overrides.Override(row.image_hash, verdict, label, path, words))
    if not decisions:
        raise ConfigError("none of these files can be accepted; see above.")
    file = to or _named_by(place) or _OVERRIDES
    written = overrides.add(file, decisions)
    console.print(f"{written} decisions added to {escape(str(file))}; review and commit it, then:")
    console.print(f"  imgpipe run … --set judge.overrides={escape(str(file))}")


def find(place: Path) -> Path:
    """The quarantine folder that `place` is, or that the newest run in it wrote.

    Raises ResourceError when there is none.
    """
    if (place / _MANIFEST).is_file():
        return place
    for run in _runs(place):
        folder = _of_run(run)
        if folder is not None:
            return folder
    found = [path.parent for path in place.glob(f"**/quarantine/*/{_MANIFEST}")]
    if not found:
        raise ResourceError(
            f"no quarantine in {place}. Name the output folder of a run: --from DIR."
        )
    return max(found, key=_changed)


def _runs(place: Path) -> list[Path]:
    """`place` itself, then the folders of the runs in it, the newest first."""
    return [place, *sorted(place.glob("runs/*/"), key=_changed, reverse=True)]


def _changed(path: Path) -> float:
    return path.stat().st_mtime


def _of_run(run: Path) -> Path | None:
    """The quarantine that a run's facts name, when it is still there."""
    try:
        uri = json.loads((run / "facts.json").read_text(encoding="utf-8"))["quarantine"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    folder = Path(str(uri).removeprefix("file://"))
    return folder if (folder / _MANIFEST).is_file() else None


def _named_by(place: Path) -> Path | None:
    """The file of overrides that the newest run was given."""
    from imgpipe.pipeline import config

    for run in _runs(place):
        if (run / "config.toml").is_file():
            return config.load(run / "config.toml").overrides_file
    return None


def read(folder: Path, warnings: bool = False) -> list[Row]:
    """The rows of a quarantine, in the order of its file."""
    file = folder / (_WARNINGS if warnings else _MANIFEST)
    known = {field.name for field in fields(Row)}
    rows = []
    for number, line in enumerate(file.read_bytes().splitlines() if file.is_file() else (), 1):
        try:
            values: dict[str, Any] = json.loads(line)
            row = Row(**{key: str(value) for key, value in values.items() if key in known})
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ResourceError(
                f"{file}, line {number}: expected what a run wrote about a file, received "
                f"{line[:80]!r} ({error}). Restore the file, or run again"
            ) from None
        rows.append(row)
    return rows


def select(rows: Iterable[Row], which: Sequence[str], reason: str | None) -> list[Row]:
    """Rows of a reason that any of the words names; all of them when there is no word.

    Raises ConfigError naming the words and the reason that fit nothing.
    """
    everything = list(rows)
    reasons = sorted({row.reason for row in everything})
    if reason is not None and reason not in reasons:
        raise ConfigError(
            f"nothing was found for {reason!r}; there are: {', '.join(reasons) or 'none'}"
        )
    found = [row for row in everything if reason in (None, row.reason)]
    if missing := [word for word in which if not any(_fits(row, word) for row in found)]:
        raise ConfigError(f"no such file in quarantine: {', '.join(missing)}")
    return [row for row in found if not which or any(_fits(row, word) for word in which)]


def _fits(row: Row, word: str) -> bool:
    if _HASH.fullmatch(word) and row.image_hash.startswith(word):
        return True
    return word == row.path or fnmatch.fnmatchcase(row.path, word)


def _some(
    folder: Path, which: Sequence[str] | None, reason: str | None, warnings: bool = False
) -> list[Row]:
    if not which and reason is None:
        raise ConfigError("which files? Name paths, patterns or hashes, or a --reason.")
    return select(read(folder, warnings), which or (), reason)


def _hopeless(row: Row, relabel: bool) -> str:
    """Why an override changes nothing for this file; "" when it does."""
    from imgpipe.components.image_filter.checks import CHOICES, UNUSABLE

    if row.reason in UNUSABLE:
        return f"{row.reason}: no override makes it readable; {row.override}"
    choice = CHOICES.get(row.reason)
    if relabel or (choice is not None and "ignore" in choice.may_be):
        return ""
    return f"{row.reason}: {row.override}"


def _inside(folder: Path, path: str) -> Path:
    """The place of `path` below `folder`; ConfigError when it leads out of it."""
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts:
        raise ConfigError(f"{_plain(path)} leads out of {folder}; it is not restored.")
    return folder / parts


def _copy(source: Path, target: Path, force: bool) -> bool:
    """Copy whole or not at all; False when it is there already."""
    content = source.read_bytes()
    if target.is_file() and target.read_bytes() == content:
        return False
    if target.exists() and not force:
        raise ConfigError(f"{target} holds something else. Choose another --to, or use --force.")
    atomic_write(target, content)
    return True


def _reason(row: Row) -> str:
    return row.reason


def _plain(text: str) -> str:
    """Names that are not UTF-8, made printable."""
    return text.encode("utf-8", "backslashreplace").decode()
