"""Failures of a server that cannot start, each with the exit code of the command line."""

from __future__ import annotations

from typing import ClassVar


class ServerError(Exception):
    """Base of the server's own failures; the message is for people."""

    exit_code: ClassVar[int] = 1


class BadArgument(ServerError):
    """An argument that cannot be."""

    exit_code = 2


class PortBusy(ServerError):
    """The address is not to be had."""

    exit_code = 5
