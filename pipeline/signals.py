"""SIGINT (Ctrl-C) and SIGTERM: the first asks the command to end, the second ends it at once.

Both raise `Stopped` in the main thread, so that context managers clean up. An exception that is
raised while a library is being imported may come out as another one, or not at all; `received`
remembers the signal, and whoever accounts for a failure asks it.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

_SENTENCES = {
    signal.SIGINT: "interrupted by Ctrl-C",
    signal.SIGTERM: "stopped by SIGTERM",
}
_received: int | None = None


class Stopped(BaseException):
    """A signal asked the command to end. Not an Exception, so that nobody handles it by chance."""


def install() -> None:
    """Handle both signals from now on; a signal that the parent process ignores stays ignored."""
    for number in _SENTENCES:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    global _received
    if _received is not None:
        os._exit(128 + number)
    _received = number
    raise Stopped


def received() -> bool:
    """Whether a signal has asked the command to end."""
    return _received is not None


def check() -> None:
    """Raise `Stopped` where a signal came and its exception was lost inside a library."""
    if received():
        raise Stopped


def exit_code() -> int:
    """130 after SIGINT, 143 after SIGTERM: 128 and the signal's number, as shells report it."""
    return 128 + (_received or signal.SIGINT)


def sentence() -> str:
    """What happened, for people."""
    return _SENTENCES[signal.Signals(_received or signal.SIGINT)]
