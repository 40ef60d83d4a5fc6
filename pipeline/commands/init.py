"""``imgpipe init``: a commented configuration from what the source holds."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.models.atomic_write import atomic_write
from imgpipe.models.errors import ConfigError
from imgpipe.pipeline import options
from imgpipe.pipeline.terminal import escape, new_console

if TYPE_CHECKING:
    from imgpipe.components.example_gen.sources import Scan
    from imgpipe.pipeline.config import Config

app = typer.Typer()

#: What stands before ".rf." is the image's own name, the same in all its versions.
_VERSIONS = r"([^/]+)\.rf\."
_MIN_VALIDATION = 3  # images of a class below which the validation share is worth a note


@app.command(rich_help_panel=options.DATA_AND_TRAINING)
def init(
    photos: Annotated[str, typer.Argument(metavar="SRC", help=options.SOURCE_HELP)],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write the config.")
    ] = Path("imgpipe.toml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
) -> None:
    """Look at the images and write a commented config."""
    raise typer.Exit(run(photos, output, force))


def run(photos: str, output: Path, force: bool) -> int:
    """Scan, propose, write; returns the exit code."""
    from imgpipe.components.example_gen.sources import absolute, open_source
    from imgpipe.pipeline import config as configs

    if output.exists() and not force:
        raise ConfigError(f"{output} exists already. Choose another with -o, or use --force.")
    if not photos.strip():
        raise ConfigError("SRC is empty; expected a folder of images or another source.")
    photos = absolute(photos, Path.cwd())
    scan = open_source(photos).scan()
    config, notes = propose(scan, photos)
    try:
        atomic_write(output, configs.to_toml(config, notes))
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error.strerror}.") from None
    console = new_console()
    counts = ", ".join(f"{name} {count}" for name, count in scan.counts().items())
    console.print(f"{len(scan.items)} files in {len(scan.vocabulary)} classes: {escape(counts)}")
    for note in "\n".join(notes.values()).splitlines():
        console.print(f"[dim]{escape(note)}[/]")
    console.print(f"wrote {escape(str(output))}; next: imgpipe run {escape(str(output))}")
    return 0


def propose(scan: Scan, photos: str) -> tuple[Config, dict[str, str]]:
    """Settings that fit the data, and notes by section that say why."""
    from imgpipe.pipeline import config as configs

    counts = scan.counts()
    notes = {"data": "classes: " + ", ".join(f"{name} ({n})" for name, n in counts.items())}
    if scan.given_splits:
        notes["split"] = (
            f"the source gives {', '.join(scan.given_splits)}; shares apply to what it lacks"
        )
    smallest = min(counts.values(), default=0)
    tree: dict[str, dict[str, object]] = {
        "run": {"name": _name(photos)},
        "data": {"source": photos},
    }
    pattern = _group_pattern(scan)
    if pattern:
        tree["data"]["group_pattern"] = pattern
        notes["data"] += "\nnames show several versions of an image: they stay in one split"
    elif scan.groups():
        notes["data"] += f"\n{scan.groups()} groups, none of them in two splits"
    seen = Counter(note.kind for note in scan.notes)
    if seen:
        found = ", ".join(f"{kind} {count}" for kind, count in sorted(seen.items()))
        notes["data"] += f"\nreported: {found}"
    expected = int(smallest * configs.Split().validation)
    if not scan.given_splits and expected < 2 * _MIN_VALIDATION:
        tree["split"] = {"validation": 0.2, "test": 0.0}
        tree["gate"] = {"min_train": min(10, max(1, smallest // 2)), "min_validation": 1}
        notes["split"] = (
            f"the smallest class has {smallest} images: more for validation, none for test"
        )
    return configs.build(tree), notes


def _group_pattern(scan: Scan) -> str:
    """A pattern for names that Roboflow gives the versions of one image, "" for others."""
    if scan.groups():
        return ""
    versions = sum(bool(re.search(_VERSIONS, item.path)) for item in scan.items)
    return _VERSIONS if versions > len(scan.items) // 2 else ""


def _name(photos: str) -> str:
    """A pipeline name from the source's."""
    place = Path(photos.split(":", 1)[-1]).name.split(".")[0]
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", place).strip("-_")
    return name[:62] or "imgpipe"
