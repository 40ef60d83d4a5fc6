"""Finds the cause of an error, so that people read one sentence that tells them what to do.

Beam re-raises the errors of its workers as another type, TensorFlow has its own error types, and a
full disk appears as any of several errors.
"""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Iterator
from pathlib import Path

from imgpipe.models.errors import ImgpipeError, ResourceError, first_line
from imgpipe.pipeline.command_line import signals
from imgpipe.pipeline.output.output_folder import DATABASE

_KEPT = "Finished work is kept, and a new run continues from it."
_FULL = "the disk is full ({}). Free space, or choose --out OUT. " + _KEPT
_FAILING = (
    "the disk reports an error ({}). Check the disk, or "
    "choose a folder on another disk with --out OUT."
)
_READ_ONLY = "the disk is read-only ({}). Choose a folder on another disk with --out OUT."
_MEMORY = "memory ran out ({}). Close other programs or use a larger machine. " + _KEPT
_BATCH = (
    "memory ran out ({}). Lower course.batch_size and course.fine_tune.batch_size, or use a "
    "larger machine. " + _KEPT
)
_BY_NUMBER = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,  # the user's share of the disk is used up
    errno.EFBIG: _FULL,  # a file is larger than the file system or `ulimit -f` allows
    errno.EIO: _FAILING,
    errno.EROFS: _READ_ONLY,
    errno.ENOMEM: _MEMORY,
}
#: Messages of SQLite, and those of the operating system, which TensorFlow and Beam pass on.
_BY_TEXT = {
    "database or disk is full": _FULL,
    "disk I/O error": _FAILING,
    "OOM when allocating tensor": _BATCH,  # TensorFlow
    **{os.strerror(number): sentence for number, sentence in _BY_NUMBER.items()},
}


class Interrupted(ImgpipeError):
    """The run was stopped by Ctrl-C or SIGTERM."""

    def __init__(self) -> None:
        super().__init__(f"{signals.sentence()}. {_KEPT}")
        self.exit_code = signals.exit_code()


def cause(error: BaseException | None) -> str:
    """Return an error as a sentence, "" for None.

    Of an unexpected one, that is the type and the first line of the message.
    """
    if error is None or isinstance(error, ImgpipeError):
        return str(error or "")
    return f"{type(error).__name__}: {first_line(error)[:300]}"


def exit_code(error: BaseException) -> int:
    """Return the exit code of a run that ended with this error."""
    return error.exit_code if isinstance(error, ImgpipeError) else 1


def actionable(error: BaseException, out: Path) -> BaseException:
    """Find the cause of an error that people can act on.

    Args:
        error: The error, as it was raised.
        out: Output folder of the run.

    Returns:
        An error with a sentence and an exit code; `error` itself if no such cause is known, which
        is a defect of the program.
    """
    if signals.received():  # libraries may turn the signal into another error
        return Interrupted()
    # From the most to the least specific: a sentence of our own first, a path in a text last.
    causes = list(_chain(error))
    for cause in causes:
        if isinstance(cause, ImgpipeError):
            return cause
    # Beam passes on the error of an interrupted worker as text; its type is lost.
    if any("KeyboardInterrupt" in str(cause) for cause in causes):
        return Interrupted()
    for cause in causes:
        sentence = _system_sentence(cause)
        if sentence:
            return ResourceError(sentence)
    if any(map(_is_of_metadata, causes)):
        return ResourceError(
            f"{out / DATABASE} cannot be used: another program uses it, or it is damaged. Wait for "
            "that program, or delete a damaged file: the next run executes every component, and "
            "versions, stored features and results of inspection are kept."
        )
    for cause in causes:
        if isinstance(cause, OSError) and Path(str(cause.filename)).is_relative_to(out):
            remedy = "Make it writable" if isinstance(cause, PermissionError) else "Move it away"
            return ResourceError(
                f"{cause.filename} ({cause.strerror}) cannot be used. {remedy}, or choose another "
                "folder with --out OUT."
            )
    return error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes, the outermost first."""
    seen: set[int] = set()  # the contexts of errors may form a circle
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _system_sentence(error: BaseException) -> str:
    """Return a sentence for an error of the operating system, "" for other errors.

    The library's own message is not shown, since that of ML Metadata is a SQL statement.
    """
    if isinstance(error, MemoryError):
        return _MEMORY.format(type(error).__name__)
    if isinstance(error, OSError) and error.errno in _BY_NUMBER:
        file = f": {error.filename}" if error.filename else ""
        return _BY_NUMBER[error.errno].format(f"{error.strerror}{file}")
    texts = (text for text in _BY_TEXT if text in str(error))
    return next((_BY_TEXT[text].format(text) for text in texts), "")


def _is_of_metadata(error: BaseException) -> bool:
    """Whether the database of ML Metadata is the cause, whose messages are SQL statements."""
    frames = traceback.extract_tb(error.__traceback__)  # the last frame raised the error
    if not frames:
        return False
    file = Path(frames[-1].filename)
    # TFX raises an error of its own after several attempts to open the database.
    opening = file.parts[-3:] == ("tfx", "orchestration", "metadata.py")
    return opening or "ml_metadata" in file.parts
