"""Changes to Beam and TensorFlow so that folders with special characters are taken literally.

Beam reads ``FOLDER/*`` and, before it writes, deletes what ``FOLDER/PREFIX-*-of-*`` matches. TFMA
finds its results by a pattern, and TensorFlow finds the variables of a model by one. All of them
insert the folder into the pattern without quoting it, and Beam has no way to quote a character
(see `FileSystem.translate_pattern`). With an output folder named ``out*`` they would therefore
read and delete the files of other folders.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from imgpipe.models.files import file_patterns


@contextlib.contextmanager
def literal_folders(output: Path) -> Iterator[None]:
    """Within the block, only the last component of Beam's and TensorFlow's patterns is matched.

    Args:
        output: Folder that is written to. If its path has no special character, which is the usual
            case, nothing is changed.
    """
    if not file_patterns.is_special(str(output)):
        yield
        return
    import tensorflow as tf
    from apache_beam.io.localfilesystem import LocalFileSystem

    loader = tf.compat.v1.saved_model
    match, glob, load = LocalFileSystem.match, tf.io.gfile.glob, loader.load_v2

    def load_by_plain_name(directory: str, *arguments: Any, **named: Any) -> Any:
        with file_patterns.plain_name(directory) as plain:
            return load(plain, *arguments, **named)

    install()
    tf.io.gfile.glob, loader.load_v2 = _glob, load_by_plain_name
    try:
        yield
    finally:
        LocalFileSystem.match, tf.io.gfile.glob, loader.load_v2 = match, glob, load


def install() -> None:
    """Change Beam's local file system in this process; every worker process calls it."""
    from apache_beam.io.localfilesystem import LocalFileSystem

    LocalFileSystem.match = _match


def _match(self: Any, patterns: list[str], limits: list[int | None] | None = None) -> list[Any]:
    """Replace `FileSystem.match`, with the same kind of result."""
    from apache_beam.io.filesystem import MatchResult

    found = []
    for pattern, limit in zip(patterns, limits or [None] * len(patterns), strict=True):
        folder, _, name = pattern.rpartition("/")  # only `name` is matched as a pattern
        if file_patterns.is_special(name) or not name:
            held = Path(folder).glob(name or "*") if Path(folder).is_dir() else ()
            files = [str(path) for path in sorted(held) if path.is_file()]
        else:
            files = [pattern] if self.exists(pattern) else []
        found.append(MatchResult(pattern, [self.metadata(file) for file in files[:limit]]))
    return found


def _glob(pattern: str | list[str]) -> list[str]:
    """Replace `tf.io.gfile.glob`."""
    patterns = [pattern] if isinstance(pattern, str) else pattern
    return [path for one in patterns for path in file_patterns.matching(str(one))]
