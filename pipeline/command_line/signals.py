"""Handles SIGINT (Ctrl-C) and SIGTERM.

The first signal raises `Stopped` in the main thread, so that context managers clean up; a second
signal ends the process at once. A library may replace or swallow an exception that is raised while
it is being imported, so `received` tells later whether a signal arrived. In a destructor or the
callback of a weak reference, of which the import system has one for each module, Python prints an
exception and ignores it; there `Stopped` is raised again a moment later. While an extension module
is being imported, an exception in Python code that it calls may abort the process, so that
`Stopped` waits for the end of it.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib.machinery import ExtensionFileLoader
from types import FrameType

_SENTENCES = {signal.SIGINT: "interrupted by Ctrl-C", signal.SIGTERM: "stopped by SIGTERM"}
_AGAIN_SECONDS = 0.01  # until `Stopped` is raised again; most destructors are shorter
_received: int | None = None


class Stopped(BaseException):
    """A signal asked the command to end; not an Exception, so that no handler swallows it."""


def install() -> None:
    """Install the handlers; a signal that the parent process ignores stays ignored."""
    for number in _SENTENCES:
        # A shell without job control ignores SIGINT for what it starts in the background.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)
    original_hook = sys.unraisablehook

    def raise_again(unraisable: sys.UnraisableHookArgs) -> None:
        if unraisable.exc_type is not Stopped:
            original_hook(unraisable)
            return
        # An exception raised here would be ignored too, so a timer raises it after the destructor.
        _raise_later()

    sys.unraisablehook = raise_again


def _raise_later() -> None:
    signal.signal(signal.SIGALRM, lambda number, frame: _raise(frame))
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)


def _raise(frame: FrameType | None) -> None:
    """Raise `Stopped` above a frame, now or after the import of an extension module."""
    caller = frame
    while caller is not None:
        if isinstance(caller.f_locals.get("self"), ExtensionFileLoader):
            _raise_later()
            return
        caller = caller.f_back
    raise Stopped


def _stop(number: int, frame: FrameType | None) -> None:
    global _received
    if _received is not None:
        os._exit(128 + number)  # at once, even if cleaning up after the first signal hangs
    _received = number
    _raise(frame)


def received() -> bool:
    """Whether a signal has asked the command to end; if so, `Stopped` is not raised again."""
    if _received is not None:
        signal.setitimer(signal.ITIMER_REAL, 0)  # stops the timer of `install`
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
