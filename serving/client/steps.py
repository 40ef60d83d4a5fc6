"""The steps of an operation, shared by the blocking and the asyncio client.

An operation is a generator. It yields steps (a call, a pause, blocking work, several operations at
once) and receives the result of each step, or has its error thrown into it. The client executes the
steps with its transport. A client needs to know nothing about models, and an operation nothing
about threads or event loops.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from imgpipe.serving.client.protos import Method

T = TypeVar("T")
_LONGEST_TIMEOUT_S = 365 * 24 * 3600.0
"""A longer timeout, such as ``math.inf``, means this one. From about 200 years on, gRPC's deadline
lies in the past, and sockets refuse it."""


@dataclass(frozen=True)
class Call:
    """One RPC; its result is the reply, its error a ``ServingError``."""

    method: Method
    request: Any
    timeout: float
    """Deadline in seconds, including all retries."""
    wait_for_ready: bool

    def __post_init__(self) -> None:
        object.__setattr__(self, "timeout", min(self.timeout, _LONGEST_TIMEOUT_S))


@dataclass(frozen=True)
class Pause:
    """Wait for a number of seconds."""

    seconds: float


@dataclass(frozen=True)
class Work:
    """Blocking work, such as reading files."""

    do: Callable[[], Any]


@dataclass(frozen=True)
class Together:
    """Several operations, of which at most ``at_once`` run at a time.

    The result is the list of their results in order. The first error ends all of them.
    """

    operations: Sequence[Operation[Any]]
    at_once: int


ClientStep = Call | Pause | Work | Together
Operation = Generator[ClientStep, Any, T]
