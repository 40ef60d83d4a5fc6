"""The last version, as the components of a run read it: where it lies, while it is there.

The settings of these components have its number and digest, so that TFX's cache notices another
version.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from imgpipe.components.common.storage import manifest
from imgpipe.models.errors import ResourceError


@contextlib.contextmanager
def in_use(base: Path, number: int, digest: str) -> Iterator[manifest.Version | None]:
    """Yield the version that a run is compared with, for a block that reads its files.

    Args:
        base: Base path of the published versions.
        number: Number of the version; 0 if there is none, and None is yielded.
        digest: Its `Version.digest` when the run began.

    Raises:
        ResourceError: The version has been removed or damaged since the run began, or was while
            the block worked.
    """
    version = _intact(base, number, digest) if number else None
    try:
        yield version
    except Exception:
        if number:
            _intact(base, number, digest)
        raise


def _intact(base: Path, number: int, digest: str) -> manifest.Version:
    version = manifest.intact(base, number)
    if version is not None and version.digest == digest:
        return version
    raise ResourceError(
        f"version {number} in {base} was the last blessed model when this run began, and is now "
        "missing or damaged. Run again to compare with the version that is there now."
    )
