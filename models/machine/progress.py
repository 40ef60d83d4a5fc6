"""Progress of the work: loops report counts to the display, if there is one.

On the local runner, Beam's DoFns run in the same process, so one listener for the whole module is
enough. In other processes no listener is attached, and a call costs one lookup.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import Protocol


class Listener(Protocol):
    """The interface of a display. Its methods may be called from any thread."""

    def step(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Show a step while its body runs."""

    def advance(self, count: int, unit: str) -> None:
        """Report that `count` more units are done."""

    def total(self, count: int, unit: str) -> None:
        """Report of how many units the count begins anew."""

    def part(self, text: str, left: float | None) -> None:
        """Report which part of the current step begins, and how many seconds are left for all."""

    def say(self, text: str) -> None:
        """Show a sentence about the current step."""


_listener: Listener | None = None
_of_thread = threading.local()


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Ignores the counts of this thread, whose work is not part of the displayed step."""
    _of_thread.silent = True
    try:
        yield
    finally:
        _of_thread.silent = False


@contextlib.contextmanager
def shown_by(listener: Listener) -> Iterator[None]:
    """Send what is reported to a display while the context is active."""
    global _listener
    _listener = listener
    try:
        yield
    finally:
        _listener = None


def step(name: str) -> contextlib.AbstractContextManager[None]:
    """Show a step, such as `loading TensorFlow`, while its body runs."""
    listener = _current_listener()
    return listener.step(name) if listener else contextlib.nullcontext()


def advance(count: int, unit: str = "images") -> None:
    """Report that `count` more units are done."""
    listener = _current_listener()
    if listener:
        listener.advance(count, unit)


def total(count: int, unit: str = "images") -> None:
    """Begin to count units of which the number is known, in a step that may do so repeatedly."""
    listener = _current_listener()
    if listener:
        listener.total(count, unit)


def part(text: str, left: float | None = None) -> None:
    """Report which part of the current step begins.

    Args:
        text: What is being done, such as `fold 2 of 5`.
        left: Estimated seconds of the step from this part on; None if nothing tells.
    """
    listener = _current_listener()
    if listener:
        listener.part(text, left)


def say(text: str) -> None:
    """Show a sentence about the current step, or log it if there is no display."""
    listener = _current_listener()
    if listener:
        listener.say(text)
    else:
        logging.getLogger(__name__).info(text)


def _current_listener() -> Listener | None:
    return None if getattr(_of_thread, "silent", False) else _listener
