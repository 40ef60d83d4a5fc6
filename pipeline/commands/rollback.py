"""``imgpipe rollback``: an earlier version's content again, under a new number.

Numbers only grow, so every server that polls the folder takes it up like a new model; Baseline
follows because it reads the newest manifest.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from components import manifest, versions
from models.errors import ConfigError

_COMPUTED = ("schema", "version", "files")  # written anew by the publisher


def run(model_dir: Path, to: int | None) -> int:
    """Publish; returns the exit code."""
    found = list(manifest.versions(model_dir))
    numbers = [version.number for version in found]
    if to is None:
        to = _before(found)
    chosen = next((version for version in found if version.number == to), None)
    if chosen is None:
        there = ", ".join(map(str, numbers)) or "none"
        raise ConfigError(f"no whole version {to} in {model_dir}. There: {there}.")
    facts = {key: value for key, value in chosen.manifest.items() if key not in _COMPUTED}
    facts["rolled_back_to"] = chosen.number
    published = versions.publish(model_dir, {"": chosen.path}, facts)
    Console(highlight=False, soft_wrap=True).print(
        f"version {published.number} now holds the content of version {chosen.number}"
    )
    return 0


def _before(found: list[manifest.Version]) -> int:
    """The newest version whose content differs from what is served now."""
    if not found:
        raise ConfigError("there is no version to roll back to.")
    current = found[0].manifest["files"]
    for version in found[1:]:
        if version.manifest["files"] != current:
            return version.number
    raise ConfigError(
        f"there is no other content than version {found[0].number}'s to roll back to."
    )
