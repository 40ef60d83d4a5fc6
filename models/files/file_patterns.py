"""File patterns whose last part may contain wildcards, while all folders are taken literally.

An output folder may be called ``runs [new]`` or ``out*``. As part of an ordinary pattern, such a
name matches nothing, or the files of another folder.
"""

from __future__ import annotations

import contextlib
import fnmatch
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

_SPECIAL = frozenset("*?[")


def is_special(path: str) -> bool:
    """Return whether a path contains characters that have a meaning in patterns."""
    return not _SPECIAL.isdisjoint(path)


def matching(pattern: str) -> list[str]:
    """Return the files and folders that a pattern matches, in sorted order.

    Args:
        pattern: Local or remote path whose last part may contain ``*``, ``?`` and ``[…]``.

    Returns:
        Paths in the folder of the pattern; none when the folder does not exist.
    """
    import tensorflow as tf

    folder, _, name = pattern.rpartition("/")
    if not tf.io.gfile.isdir(folder or "."):
        return []
    # On object stores, `listdir` gives the names of folders with a slash at their end.
    entries = (entry.rstrip("/") for entry in tf.io.gfile.listdir(folder or "."))
    matched = fnmatch.filter(entries, name)
    return sorted(f"{folder}/{entry}" if folder else entry for entry in matched)


def all_matching(patterns: Iterable[str]) -> list[str]:
    """Return the files and folders that any of the patterns matches, in sorted order."""
    return sorted(path for pattern in patterns for path in matching(pattern))


@contextlib.contextmanager
def plain_name(directory: str) -> Iterator[str]:
    """Provide a path without special characters to a local folder, while the block runs.

    TensorFlow's reader of variables treats the path of the variables as a pattern
    (tensorflow/tensorflow#35489). A symbolic link with a plain name avoids that.

    Args:
        directory: Folder of a SavedModel.

    Yields:
        The path to use: the directory itself when it contains no special characters.
    """
    if not is_special(directory) or "://" in directory:
        yield directory
        return
    # During a run, TMPDIR lies in the output folder, so its path has special characters too.
    usual = tempfile.gettempdir()
    parent = "/tmp" if is_special(usual) else usual
    with tempfile.TemporaryDirectory(prefix="imgpipe-", dir=parent) as folder:
        link = Path(folder) / "model"
        link.symlink_to(Path(directory).absolute(), target_is_directory=True)
        yield str(link)
