"""Errors of a server that cannot start, each with its exit code of the command line."""

from __future__ import annotations

from typing import ClassVar


class ServerError(Exception):
    """Base class of the errors."""

    exit_code: ClassVar[int] = 1


class BadArgument(ServerError):
    """An argument or a configuration file is not valid."""

    exit_code = 2


class PortBusy(ServerError):
    """The server cannot listen on the address."""

    exit_code = 5
