"""File patterns in which only the last part is a pattern and every folder is taken by its name.

An output folder may be called ``runs [new]`` or ``out*``. Put into a pattern as it is, such a name
finds nothing, or the files of another folder.
"""

from __future__ import annotations

import contextlib
import fnmatch
import tempfile
from collections.abc import Iterator
from pathlib import Path

_SPECIAL = frozenset("*?[")


def is_special(path: str) -> bool:
    """Whether a pattern would not take this path by its name."""
    return not _SPECIAL.isdisjoint(path)


def matching(pattern: str) -> list[str]:
    """Files and folders that a pattern matches, in order.

    Args:
      pattern: local or remote path whose last part may hold ``*``, ``?`` and ``[…]``.

    Returns:
      Paths in the folder that the pattern names; none when the folder does not exist.
    """
    import tensorflow as tf

    folder, _, name = pattern.rpartition("/")
    if not tf.io.gfile.isdir(folder or "."):
        return []
    found = fnmatch.filter(
        (entry.rstrip("/") for entry in tf.io.gfile.listdir(folder or ".")), name
    )
    return sorted(f"{folder}/{entry}" if folder else entry for entry in found)


@contextlib.contextmanager
def plain_name(directory: str) -> Iterator[str]:
    """Another name for a local folder, for TensorFlow's reader of variables.

    The reader takes the place of the variables for a pattern. While the block runs, a link with a
    plain name leads to the folder.

    Args:
      directory: of a SavedModel.

    Yields:
      The directory itself where its name is nothing special.
    """
    if not is_special(directory) or "://" in directory:
        yield directory
        return
    # During a run the folder for temporary files lies in the output folder, whose name is special.
    usual = tempfile.gettempdir()
    parent = "/tmp" if is_special(usual) else usual
    with tempfile.TemporaryDirectory(prefix="imgpipe-", dir=parent) as folder:
        link = Path(folder) / "model"
        link.symlink_to(Path(directory).absolute(), target_is_directory=True)
        yield str(link)
