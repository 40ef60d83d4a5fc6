"""Finds published models: commands take the folder of a run, its versions, or one version."""

from __future__ import annotations

from pathlib import Path

from imgpipe.models.errors import ResourceError

_SAVED_MODEL = "saved_model.pb"
_VERSIONS = "model"  # folder of versions below the output folder; default of push.directory


def locate(path: Path) -> tuple[Path, Path | None]:
    """Find the folder of versions.

    Args:
        path: Output folder of a run, folder of numbered versions, or one version.

    Returns:
        The folder of numbered versions, and the absolute path of the version if `path` is one, else
        None.

    Raises:
        ResourceError: There is no model.
    """
    from imgpipe.components.storage.manifest import version_numbers

    path = path.expanduser()
    if (path / _SAVED_MODEL).is_file():
        version = path.absolute()
        # "." and a link such as "current" stand for a version; its folder is named by the number.
        if not version.name.isdecimal() and version.resolve().name.isdecimal():
            version = version.resolve()
        return version.parent, version
    for base in (path, path / _VERSIONS):
        if version_numbers(base):
            return base, None
    raise no_model(path)


def no_model(path: Path) -> ResourceError:
    """Build the error for a folder without a model, which says what it holds instead.

    Args:
        path: The folder; it need not exist.
    """
    if not path.is_dir():
        there = "there is no such folder"
    else:
        names = sorted(child.name for child in path.iterdir())[:5]  # enough to recognise the folder
        there = f"it holds {', '.join(names) or 'nothing'}"
    return ResourceError(
        f"no model in {path}. Expected: the output folder of a run that published one, a folder of "
        f"numbered versions such as {path / '1'}, or one version. Received: {there}. "
        "Run `imgpipe run`, or name another folder."
    )
