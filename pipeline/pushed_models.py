"""Where a model is: commands take the output folder of a run, its versions, or one version."""

from __future__ import annotations

from pathlib import Path

from imgpipe.models.errors import ResourceError

_SAVED_MODEL = "saved_model.pb"
_VERSIONS = "model"  # where a run pushes to in its output folder, unless push.directory says else


def locate(place: Path) -> tuple[Path, Path | None]:
    """Find the versions that a person means.

    Args:
      place: the output folder of a run, a folder of numbered versions, or one version.

    Returns:
      The folder of numbered versions, and the version when `place` is one, None otherwise.

    Raises:
      ResourceError: there is no model.
    """
    from imgpipe.components.model_pusher.manifest import version_numbers

    place = place.expanduser()
    if (place / _SAVED_MODEL).is_file():
        return place.absolute().parent, place
    for base in (place, place / _VERSIONS):
        if version_numbers(base):
            return base, None
    raise no_model(place)


def no_model(place: Path) -> ResourceError:
    """The error of a place without a model, which says what is there instead."""
    if not place.is_dir():
        there = "there is no such folder"
    else:
        names = sorted(child.name for child in place.iterdir())[:5]
        there = f"it holds {', '.join(names) or 'nothing'}"
    return ResourceError(
        f"no model in {place}. Expected: the output folder of a run that pushed one, a folder of "
        f"numbered versions such as {place / '1'}, or one version. Received: {there}. "
        "Run `imgpipe run`, or name another folder."
    )
