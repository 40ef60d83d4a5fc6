"""What a person can act on inside an error that a run met, whatever raised it.

Beam raises what a worker raised as another type, TensorFlow has error types of its own, and a full
disk reaches a run as any of several.
"""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Iterator
from pathlib import Path

from imgpipe.models.errors import ImgpipeError, ResourceError
from imgpipe.pipeline import metadata_file, signals

_KEPT = "What is done is kept, and a new run takes it up."
_FULL = "the disk is full ({}). Free space, or choose --out DIR. " + _KEPT
_FAILING = "the disk reports an error ({}). Check it with its own tools, or choose --out DIR."
_READ_ONLY = "the disk cannot be written ({}). Choose --out DIR on another one."
_MEMORY = "memory ran out ({}). Close other programs or use a larger machine. " + _KEPT
_BY_NUMBER = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: _FULL,
    errno.EIO: _FAILING,
    errno.EROFS: _READ_ONLY,
    errno.ENOMEM: _MEMORY,
}
#: As SQLite, and TensorFlow and Beam, which pass on the system's words, put it.
_BY_TEXT = {
    "database or disk is full": _FULL,
    "disk I/O error": _FAILING,
    **{os.strerror(number): sentence for number, sentence in _BY_NUMBER.items()},
}

#: TensorFlow, which has error types of its own, passes on the system's words.
_IN_THE_WAY = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EACCES, errno.EPERM)


class Interrupted(ImgpipeError):
    """A signal asked the run to end: Ctrl-C or SIGTERM."""

    def __init__(self) -> None:
        super().__init__(
            f"{signals.sentence()}; what is done is kept, and a new run continues from there"
        )
        self.exit_code = signals.exit_code()


def cause(error: BaseException | None) -> str:
    """What went wrong, for people; "" when nothing did.

    Args:
        error: Of a run, or None.
    """
    if error is None:
        return ""
    if isinstance(error, ImgpipeError):
        return str(error)
    text = str(error).strip() or type(error).__name__
    return f"{type(error).__name__}: {text.splitlines()[0][:300]}"


def known(error: BaseException, out: Path) -> BaseException:
    """The failure a person can act on inside an error.

    Args:
        error: As it was raised.
        out: Output folder of the run.

    Returns:
        An error with a sentence and an exit code; `error` itself when it is a defect.
    """
    if signals.received():  # whatever a library made of it
        return Interrupted()
    causes = list(_chain(error))
    for one in causes:
        if isinstance(one, ImgpipeError):
            return one
    if any("KeyboardInterrupt" in str(one) for one in causes):  # inside a Beam worker
        return Interrupted()
    for one in causes:
        if sentence := _of_the_system(one):
            return ResourceError(sentence)
    if any(map(_is_of_metadata, causes)):
        return metadata_file.cannot_be_used(out)
    for one in causes:
        if place := _in_the_way(one, out):
            return ResourceError(
                f"{place} cannot be used. Look at what is there, or choose another --out DIR."
            )
    return error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """`error` and what it came from, the outermost first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _of_the_system(error: BaseException) -> str:
    """What the operating system refused, for people; "" for another error.

    The message of another library is not shown: ML Metadata's is a SQL statement.
    """
    if isinstance(error, MemoryError):
        return _MEMORY.format(type(error).__name__)
    if isinstance(error, OSError) and error.errno in _BY_NUMBER:
        place = f": {error.filename}" if error.filename else ""
        return _BY_NUMBER[error.errno].format(f"{error.strerror}{place}")
    texts = (text for text in _BY_TEXT if text in str(error))
    return next((_BY_TEXT[text].format(text) for text in texts), "")


def _is_of_metadata(error: BaseException) -> bool:
    """Whether ML Metadata raised it, which shows SQL statements in its messages."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and "ml_metadata" in Path(frames[-1].filename).parts


def _in_the_way(error: BaseException, out: Path) -> str:
    """What in the output folder is not what it should be, with the system's words; or ""."""
    if isinstance(error, OSError):
        name = error.filename
        below = isinstance(name, str) and Path(name).is_relative_to(out)
        return f"{name} ({error.strerror})" if below else ""
    text = str(error).lower()
    words = any(os.strerror(number).lower() in text for number in _IN_THE_WAY)
    return cause(error) if words and str(out) in str(error) else ""
