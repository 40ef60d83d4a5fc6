"""``imgpipe rollback``: publishes an earlier version again, under a new number.

Numbers only grow, so every server that polls the folder loads it like a new model. The models that
were published after it are recorded as withdrawn: no later run publishes them again or uses them as
its baseline.
"""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.pipeline.command_line import options
from imgpipe.pipeline.command_line.terminal import new_console

if TYPE_CHECKING:
    from imgpipe.components.storage import manifest

app = typer.Typer()

_COMPUTED = ("schema", "version", "files", "withdrawn")  # not copied from the earlier manifest
_NAMED = 3  # versions that an error names
_EXAMPLES = """Examples:\n
  imgpipe rollback imgpipe-out\n
  imgpipe rollback imgpipe-out/model/2\n
  imgpipe rollback imgpipe-out --to 2
"""


@app.command(rich_help_panel=options.SERVING, epilog=_EXAMPLES)
def rollback(
    model_dir: options.VersionsArgument,
    to: Annotated[
        int | None,
        typer.Option(
            "--to",
            metavar="VERSION",
            help="Version to publish again. Default: the newest with other content.",
        ),
    ] = None,
) -> None:
    """Publish an earlier version again, under a new number."""
    from imgpipe.components.model_pusher import versions
    from imgpipe.components.report.text import plural
    from imgpipe.components.storage import manifest

    model_dir, to = _located(model_dir, to)
    found = list(manifest.versions(model_dir))
    chosen = _chosen(found, model_dir, to)
    facts = {key: value for key, value in chosen.manifest.items() if key not in _COMPUTED}
    facts["rolled_back_to"] = chosen.number
    facts.setdefault("pushed_as", chosen.number)  # a second rollback keeps the number of the run

    def withdraw(newest: manifest.Version | None) -> dict[str, list[str]]:
        """Return the models that are withdrawn; another run may just have published one."""
        newer = _later(model_dir, chosen) | set(manifest.withdrawn(model_dir))
        # A second rollback may return to a withdrawn version.
        return {"withdrawn": sorted(newer - {chosen.identity})}

    published = versions.publish(
        # The digests are compared while the files are copied, so that no damage is published.
        model_dir,
        {"": chosen.path},
        facts,
        decide=withdraw,
        expected=chosen.manifest["files"],
    )
    if published is not None:
        gone = len(_later(model_dir, chosen) & set(published.withdrawn))
        new_console().print(
            f"version {published.number} now holds the model of version {chosen.number}; "
            f"{plural(gone, 'newer model')} will not be published again"
        )


def _later(folder: Path, chosen: manifest.Version) -> set[str]:
    """Return the identities of the models that were published after a version.

    Damaged versions are among them, because a run may make the same model again.
    """
    from imgpipe.components.storage import manifest

    found = set()
    for version in manifest.readable(folder):
        # The list of files may be damaged itself.
        with contextlib.suppress(LookupError, TypeError, AttributeError):
            if version.number > chosen.number:
                found.add(version.identity)
    return found


def _located(model_dir: Path, to: int | None) -> tuple[Path, int | None]:
    """Return the folder of versions, and the number that the arguments name."""
    from imgpipe.pipeline.published import pushed_models

    folder, version = pushed_models.locate(model_dir)
    if version is None:
        return folder, to
    if not version.name.isdecimal():  # a SavedModel that is not a published version
        raise pushed_models.no_model(version)
    if to not in (None, int(version.name)):
        raise ConfigError(
            f"--to {to} and {version} name different versions. Expected: one of them, such as "
            f"imgpipe rollback {shlex.quote(str(folder))} --to {to}"
        )
    return folder, int(version.name)


def _chosen(found: list[manifest.Version], folder: Path, to: int | None) -> manifest.Version:
    """Return the version to publish again."""
    from imgpipe.components.storage import manifest

    number = _before(found, folder) if to is None else to
    chosen = next((version for version in found if version.number == number), None)
    if chosen is None:
        there = ", ".join(str(version.number) for version in found) or "none"
        raise ConfigError(
            f"version {number} in {folder} is missing or damaged "
            f"({manifest.damage(folder / str(number))}). Intact versions: {there}."
        )
    return chosen


def _before(found: list[manifest.Version], folder: Path) -> int:
    """Return the newest version whose content differs from the one with the highest number."""
    from imgpipe.components.storage import manifest

    if not found:
        reasons = "; ".join(
            f"version {number}: {manifest.damage(folder / str(number))}"
            for number in manifest.version_numbers(folder)[-_NAMED:]
        )
        raise ResourceError(
            "there is no version to roll back to: every version is missing or damaged, or cannot "
            f"be read ({reasons})."
        )
    highest = manifest.version_numbers(folder)[-1]
    passed = set(manifest.withdrawn(folder))
    if found[0].number == highest:  # otherwise that one is damaged, and any intact one replaces it
        passed.add(found[0].identity)
    for version in found:
        if version.identity not in passed:
            return version.number
    raise ConfigError(
        f"there is no earlier model: all versions hold the model of version {highest}, or were "
        "withdrawn by a rollback. --to publishes one of these again."
    )
