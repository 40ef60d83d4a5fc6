"""Libraries made to take the folders of a file pattern by their names.

Beam reads ``FOLDER/*`` and, before it writes, deletes what ``FOLDER/PREFIX-*-of-*`` matches; TFMA
finds its own results by a pattern, and TensorFlow's reader the variables of a model. All of them
put the folder into the pattern as it is, and Beam has no way to quote a character
(`FileSystem.translate_pattern` says so). An output folder ``out*`` would therefore read and delete
the files of its neighbours.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from imgpipe.models import file_patterns


@contextlib.contextmanager
def literal_folders(output: Path) -> Iterator[None]:
    """Within the block, patterns of Beam and TensorFlow match in their last part alone.

    Args:
      output: the folder that is written to. Where its name is nothing special, which is nearly
        always, nothing is changed.
    """
    if not file_patterns.is_special(str(output)):
        yield
        return
    import tensorflow as tf
    from apache_beam.io.localfilesystem import LocalFileSystem

    loader = tf.compat.v1.saved_model
    match, glob, load = LocalFileSystem.match, tf.io.gfile.glob, loader.load_v2

    def load_by_plain_name(directory: str, *arguments: Any, **named: Any) -> Any:
        with file_patterns.plain_name(directory) as place:
            return load(place, *arguments, **named)

    install()
    tf.io.gfile.glob, loader.load_v2 = _glob, load_by_plain_name
    try:
        yield
    finally:
        LocalFileSystem.match, tf.io.gfile.glob, loader.load_v2 = match, glob, load


def install() -> None:
    """Change Beam's local file system in this process; every worker process does it."""
    from apache_beam.io.localfilesystem import LocalFileSystem

    LocalFileSystem.match = _match


def _match(self: Any, patterns: list[str], limits: list[int | None] | None = None) -> list[Any]:
    """In place of `FileSystem.match`, whose result it gives."""
    from apache_beam.io.filesystem import MatchResult

    found = []
    for pattern, limit in zip(patterns, limits or [None] * len(patterns), strict=True):
        folder, _, name = pattern.rpartition("/")
        if file_patterns.is_special(name) or not name:
            held = Path(folder).glob(name or "*") if Path(folder).is_dir() else ()
            files = [str(path) for path in sorted(held) if path.is_file()]
        else:
            files = [pattern] if self.exists(pattern) else []
        found.append(MatchResult(pattern, [self.metadata(file) for file in files[:limit]]))
    return found


def _glob(pattern: str | list[str]) -> list[str]:
    """In place of `tf.io.gfile.glob`."""
    patterns = [pattern] if isinstance(pattern, str) else pattern
    return [path for one in patterns for path in file_patterns.matching(str(one))]
