"""``imgpipe init``: a commented configuration from what the folder holds."""

from __future__ import annotations

import re
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from components.sources import Scan, open_source
from models.errors import ConfigError
from pipeline import config as configs

_MIN_VALIDATION = 3  # images of a class below which the validation share is worth a note


def run(photos: Path, output: Path, force: bool) -> int:
    """Scan, propose, write; returns the exit code."""
    if output.exists() and not force:
        raise ConfigError(f"{output} exists already. Choose another with -o, or use --force.")
    scan = open_source(str(photos)).scan()
    config, notes = propose(scan, photos)
    try:
        output.write_text(configs.to_toml(config, notes), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error.strerror}.") from None
    console = Console(highlight=False, soft_wrap=True)
    counts = ", ".join(f"{name} {count}" for name, count in scan.counts().items())
    console.print(f"{len(scan.items)} files in {len(scan.vocabulary)} classes: {escape(counts)}")
    for note in notes.values():
        console.print(f"[dim]{escape(note)}[/]")
    console.print(f"wrote {escape(str(output))}; next: imgpipe run {escape(str(output))}")
    return 0


def propose(scan: Scan, photos: Path) -> tuple[configs.Config, dict[str, str]]:
    """Settings that fit the data, and notes by section that say why."""
    counts = scan.counts()
    notes = {"data": "classes: " + ", ".join(f"{name} ({n})" for name, n in counts.items())}
    if scan.given_splits:
        notes["split"] = (
            f"the folders give {', '.join(scan.given_splits)}; shares apply to what they lack"
        )
    smallest = min(counts.values(), default=0)
    tree: dict[str, dict[str, object]] = {
        "run": {"name": _name(photos)},
        "data": {"source": str(photos.resolve())},
    }
    expected = int(smallest * configs.Split().validation)
    if not scan.given_splits and expected < 2 * _MIN_VALIDATION:
        tree["split"] = {"validation": 0.2, "test": 0.0}
        tree["gate"] = {"min_train": min(10, max(1, smallest // 2)), "min_validation": 1}
        notes["split"] = (
            f"the smallest class has {smallest} images: more for validation, none for test"
        )
    return configs.build(tree), notes


def _name(photos: Path) -> str:
    """A pipeline name from the folder's."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", photos.absolute().name).strip("-._")
    return name[:62] or "imgpipe"
