"""Finds published models: commands take the folder of a run, its versions, or one version."""

from __future__ import annotations

import operator
import shlex
from pathlib import Path

from imgpipe.components.storage import manifest
from imgpipe.models.errors import ConfigError, ResourceError

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
    path = path.expanduser()
    if (path / _SAVED_MODEL).is_file():
        version = path.absolute()
        # "." and a link such as "current" stand for a version; its folder is named by the number.
        if not version.name.isdecimal() and version.resolve().name.isdecimal():
            version = version.resolve()
        return version.parent, version
    for base in (path, path / _VERSIONS):
        if manifest.version_numbers(base):
            return base, None
    raise no_model(path)


def version_folder(path: Path, number: int | None) -> Path:
    """Find the version that a path and a number denote.

    Args:
        path: Output folder of a run, folder of numbered versions, or one version.
        number: Number of the version, None for the newest intact one.

    Returns:
        The folder of the version.

    Raises:
        ConfigError: There is no version of this number, or it is no integer.
        ResourceError: There is no model, or it is damaged.
    """
    if number is not None:
        try:
            number = operator.index(number)  # NumPy's integers are numbers too
        except TypeError:
            raise ConfigError(
                f"expected the number of a version as an integer. Received: {number!r}."
            ) from None
    base, version = locate(path)
    if version is None:
        numbers = manifest.version_numbers(base)
        if number is None:
            # Versions that no run has published have no manifest; of them, the last one is taken.
            newest = manifest.latest(base)
            version = newest.path if newest else base / str(numbers[-1])
        elif number in numbers:
            version = base / str(number)
        else:
            there = ", ".join(map(str, numbers))
            raise ConfigError(f"{base} has no version {number}. Versions: {there}.")
    elif number is not None and version.name != str(number):
        raise ConfigError(f"{path} is one version; remove --version {number}, or name {base}.")
    if (version / manifest.MANIFEST).exists() and (what := manifest.damage(version)):
        raise ResourceError(
            f"{version} is damaged: {what}. Choose another version, or publish an intact one "
            f"with: imgpipe rollback {shlex.quote(str(base))}"
        )
    return version


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
