"""Fingerprints of the package's source code: changed code never gets a result of the old one.

Components that TFX caches depend on `fingerprint()`, which covers the whole package, so that no
list of files has to follow code that moves. The stores of features and of inspected files outlive
a change elsewhere; they name the code that decides them, and
`tests/models/files/test_source_code.py` follows its imports.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
from pathlib import Path
from typing import Final

#: Folder of the installed package, or of the repository.
ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGE: Final = ("pipeline", "components", "models", "serving")
#: They decode, compute, describe and evaluate; another version may do so differently.
LIBRARIES: Final = (
    *("tensorflow", "keras", "numpy", "scipy", "pillow", "simplejpeg", "tfx", "apache-beam"),
    *("tensorflow-data-validation", "tensorflow-model-analysis", "pi-heif"),
)


@functools.cache
def fingerprint(paths: tuple[str, ...] = PACKAGE, libraries: tuple[str, ...] = LIBRARIES) -> str:
    """Compute the fingerprint of source code: 16 hexadecimal digits.

    Args:
        paths: Files and folders, relative to the root of the package; all of it by default.
        libraries: Packages whose versions are part of the fingerprint. One that is not installed
            counts too, because it may be installed later.
    """
    digest = hashlib.sha256()
    for relative in paths:
        path = ROOT / relative
        # Sorted, since the order in which a folder is listed depends on the file system.
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.relative_to(ROOT).as_posix().encode())
            digest.update(file.read_bytes())
    for library in libraries:
        digest.update(f"{library} {_version(library)}".encode())
    return digest.hexdigest()[:16]


def _version(library: str) -> str:
    """Return the version of a package, "" if it is not installed."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return ""
