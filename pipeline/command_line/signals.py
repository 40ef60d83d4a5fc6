"""Handles SIGINT (Ctrl-C) and SIGTERM.

The first signal raises `Stopped` in the main thread, so that context managers clean up; a second
signal ends the process at once. A library may replace or swallow the exception, so `received` tells
later whether a signal arrived.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

_SENTENCES = {signal.SIGINT: "interrupted by Ctrl-C", signal.SIGTERM: "stopped by SIGTERM"}
_received: int | None = None


class Stopped(BaseException):
    """A signal asked the command to end; not an Exception, so that no handler swallows it."""


def install() -> None:
    """Install the handlers; a signal that the parent process ignores stays ignored."""
    for number in _SENTENCES:
        # A shell without job control ignores SIGINT for what it starts in the background.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    global _received
    if _received is not None:
        os._exit(128 + number)  # at once, even if cleaning up after the first signal hangs
    _received = number
    raise Stopped


def received() -> bool:
    """Whether a signal has asked the command to end."""
    return _received is not None


def check() -> None:
    """Raise `Stopped` if a signal arrived whose exception was lost inside a library.

    Raises:
        Stopped: A signal has asked the command to end.
    """
    if received():
        raise Stopped


def exit_code() -> int:
    """Return 128 plus the number of the signal, as shells do: 130 for SIGINT, 143 for SIGTERM."""
    return 128 + (_received or signal.SIGINT)


def sentence() -> str:
    """Return a sentence about the signal, without its full stop."""
    return _SENTENCES[signal.Signals(_received or signal.SIGINT)]
