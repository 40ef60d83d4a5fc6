"""Counts of work done, from deep inside a loop to whatever display is attached.

Beam's DoFns run in the same process on the local runner, so a module-level listener is enough;
in other processes nothing is attached and the calls cost a lookup.
"""

from __future__ import annotations

from typing import Protocol


class Listener(Protocol):
    """What a display implements. Both methods are called from any thread."""

    def advance(self, count: int, unit: str) -> None:
        """Adds `count` to the work that is done."""

    def total(self, count: int, unit: str) -> None:
        """Sets how much work there is in all."""


_listener: Listener | None = None


def attach(listener: Listener | None) -> None:
    """Send further counts to `listener`; None detaches."""
    global _listener
    _listener = listener


def advance(count: int, unit: str = "images") -> None:
    """Say that `count` more units are done."""
    if _listener is not None:
        _listener.advance(count, unit)


def total(count: int, unit: str = "images") -> None:
    """Say how many units the present step will come to, where it is known."""
    if _listener is not None:
        _listener.total(count, unit)
