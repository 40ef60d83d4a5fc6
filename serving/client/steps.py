"""What a client does, written once for blocking and asyncio.

An operation is a generator: it yields what it wants done (a call, a pause, blocking work, several
operations at once) and is sent the result, or thrown the error. A runner with a transport carries
it out; it knows nothing of models, an operation nothing of threads or event loops.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from imgpipe.serving.client.protos import Method

T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """One RPC; sent back is its reply, thrown a ``ServingError``."""

    method: Method
    request: Any
    timeout: float
    """Seconds, with all retries."""
    wait_for_ready: bool


@dataclass(frozen=True)
class Pause:
    """Do nothing for so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Work:
    """Blocking work, such as reading files."""

    do: Callable[[], Any]


@dataclass(frozen=True)
class Together:
    """Several operations, at most ``at_once`` at a time; sent back are their results in order.

    The first error ends them all.
    """

    operations: Sequence[Operation[Any]]
    at_once: int


Step = Call | Pause | Work | Together
Operation = Generator[Step, Any, T]
