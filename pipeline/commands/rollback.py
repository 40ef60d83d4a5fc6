"""`imgpipe rollback`: publishes an earlier version again, under a new number.

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

from imgpipe.models.errors import ConfigError
from imgpipe.pipeline.command_line import options
from imgpipe.pipeline.command_line.terminal import new_console, say

if TYPE_CHECKING:
    from imgpipe.components.common.storage import manifest

app = typer.Typer()

_COMPUTED = ("version", "files", "withdrawn")  # not copied from the earlier manifest
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
    from imgpipe.components.common.formatting import plural
    from imgpipe.components.common.storage import manifest
    from imgpipe.components.model_pusher import versions
    from imgpipe.pipeline.output import lookup

    model = lookup.model(model_dir, version=to, published=True)
    folder = model.versions
    chosen = model.published
    if to is None and model.is_newest:
        chosen = _earlier(folder)
    facts = {key: value for key, value in chosen.manifest.items() if key not in _COMPUTED}
    facts["rolled_back_to"] = chosen.number
    facts.setdefault("pushed_as", chosen.number)  # a second rollback keeps the number of the run
    with versions.exclusive(folder):  # another run may just have published a model
        newer = {
            identity: number
            for identity, number in _later(folder, chosen).items()
            if identity != chosen.identity
        }
        # A second rollback may return to a withdrawn version.
        withdrawn = {*newer, *manifest.withdrawn(folder)} - {chosen.identity}
        facts["withdrawn"] = sorted(withdrawn)
        # The digests are compared while the files are copied, so that no damage is published.
        published = versions.publish(
            folder, {"": chosen.folder}, facts, expected=chosen.manifest["files"]
        )
    console = new_console()
    say(
        console,
        f"version {published.number} now holds the model of version {chosen.number}; "
        f"{plural(len(newer), 'newer model')} will not be published again",
    )
    if newer:
        number = max(newer.values())
        command = f"imgpipe rollback {shlex.quote(str(model_dir))} --to {number}"
        say(console, f"  publish version {number} after all:  {command}", whole=True)


def _later(folder: Path, chosen: manifest.Version) -> dict[str, int]:
    """Return the models that were published after a version, each with its highest number.

    Damaged versions are among them, because a run may make the same model again.
    """
    from imgpipe.components.common.storage import manifest

    identities: dict[str, int] = {}
    for version in manifest.readable(folder):
        # The list of files may be damaged itself.
        with contextlib.suppress(LookupError, TypeError, AttributeError):
            if version.number > chosen.number:
                identities.setdefault(version.identity, version.number)
    return identities


def _earlier(folder: Path) -> manifest.Version:
    """Return the newest version with other content than the highest, and not withdrawn."""
    from imgpipe.components.common.storage import manifest

    highest = manifest.version_numbers(folder)[-1]
    passed = set(manifest.withdrawn(folder))
    for version in manifest.versions(folder):
        # A damaged version with the highest number is replaced by any intact one.
        if version.number == highest:
            passed.add(version.identity)
        if version.identity not in passed:
            return version
    raise ConfigError(
        f"there is no earlier model: all versions hold the model of version {highest}, or "
        "were withdrawn by a rollback. --to publishes one of these again."
    )
