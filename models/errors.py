"""Errors that a person can act on, each with the exit code of the command line.

    ImgpipeError
    ├── ConfigError               2  arguments, settings, a source that is not what it should be
    │   └── NoClasses                a source without folders of classes
    ├── Interrupted               the code of a program that a signal ended
    ├── DataRefused               4  the data do not make a model
    │   └── Diverged                 no epoch had a finite loss
    ├── ResourceError             5  something outside of the run is missing or busy
    │   └── UnsafeWeightsError       a file of weights is damaged or holds code
    ├── NotEqual                  3  an export does not answer as its version does
    └── ServerError               the client's code: a server did not answer, or refused

A message names the thing, what was expected, what was received and what to do. Any other exception
is a defect of the program and leads to exit code 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_LONGEST: Final = 4_000  # characters of a message, which may repeat what other people wrote
# The beginning of an address. One that was taken for a path has a single slash; other words before
# such a slash are kinds of sources, as in csv:/home/me@work/list.csv.
_BEGINNING: Final = (
    r"(://|\b(?:https?|s?ftps?|s3[an]?|gc?s|az|adl|abfss?|wasbs?|hdfs|oss|swift|minio)://?)"
)
_USER_INFO: Final = re.compile(_BEGINNING + r"[^\s'\"]*@")
_QUERY: Final = re.compile(_BEGINNING + r"([^\s?'\"]*\?)[^\s'\"]+")


def without_secrets(text: str) -> str:
    """Return a text in which no address has user, password or query, which may be a signature."""
    return _QUERY.sub(r"\1\2…", _USER_INFO.sub(r"\1…@", text))


class ImgpipeError(Exception):
    """Base class of all errors that carry their own exit code."""

    exit_code = 1

    def __str__(self) -> str:
        """Return the message without secrets; of a very long one the beginning and the end."""
        text = super().__str__()
        if len(text) > _LONGEST:
            half = _LONGEST // 2
            text = f"{text[:half]} … ({len(text) - _LONGEST:,} characters) … {text[-half:]}"
        return without_secrets(text)


class ConfigError(ImgpipeError):
    """Bad arguments, a bad configuration or a data source that is not what it should be."""

    exit_code = 2


class DataRefused(ImgpipeError):
    """DataGate stopped the run: anomalies, too few images of a class, too many rejects."""

    exit_code = 4


class Diverged(DataRefused):
    """No epoch of a training ended with a finite validation loss."""


class ResourceError(ImgpipeError):
    """Something outside the run is missing or busy: network, weights, port, lock, disk."""

    exit_code = 5


class UnsafeWeightsError(ResourceError):
    """A weights file is damaged, or holds something other than plain numbers."""


def nearest(received: str, words: Iterable[str]) -> str:
    """Return the end of a message that names the known word most like a wrong one, if any is."""
    import difflib  # not for every `imgpipe --help`

    spelt = {word.lower(): word for word in words}
    close = difflib.get_close_matches(received.lower(), spelt, 1)
    return f"; nearest: {spelt[close[0]]}" if close else ""


def first_line(error: BaseException) -> str:
    """Return the first line of a library's message, without TensorFlow's names of graph nodes.

    It is the name of the type for an error without a message.
    """
    text = str(getattr(error, "message", None) or error)
    text = re.sub(r"\{\{[^}]*\}\}|\[Op:\w+\]( name:)?", "", text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def printable(text: str, lines: bool = False) -> str:
    r"""Return the text with unprintable characters escaped as in Python, such as `\x1b`.

    Args:
        text: Any text, also with lone surrogates, which stand for bytes that are not UTF-8.
        lines: Whether newlines are kept instead of escaped.
    """
    return "".join(
        char
        if char.isprintable() or (lines and char == "\n")
        else char.encode("unicode_escape").decode()
        for char in text
    )
