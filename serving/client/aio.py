"""The asyncio client: the methods of ``Client``, awaited, each in a thread of a pool."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Concatenate, ParamSpec, TypeVar

from imgpipe.serving.client.client import Client
from imgpipe.serving.client.errors import closed
from imgpipe.serving.client.options import ClientOptions

MOST_CALLS = 32
"""Number of calls of one client that run at once; further ones wait for a thread."""

P = ParamSpec("P")
T = TypeVar("T")


def _awaited(
    method: Callable[Concatenate[Client, P], T],
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    """Return the method of ``AsyncClient`` that awaits a method of ``Client``."""

    @functools.wraps(method)
    async def call(self: AsyncClient, *arguments: P.args, **options: P.kwargs) -> T:
        try:
            waiting = self._pool.submit(method, self._client, *arguments, **options)
        except RuntimeError as error:  # the pool was shut down
            raise closed(self.target) from error
        return await asyncio.wrap_future(waiting)

    return call


class AsyncClient(ClientOptions):  # noqa: D101 (made from that of the base)
    __doc__ = f"""{ClientOptions.__doc__}
    At most {MOST_CALLS} calls run at once. A task that is cancelled does not end its call, which
    ends with its deadline.
    """

    def __post_init__(self) -> None:
        fields = (field.name for field in dataclasses.fields(self))
        self._client = Client(**{name: getattr(self, name) for name in fields})
        self._pool = ThreadPoolExecutor(MOST_CALLS, "imgpipe-client")

    predict = _awaited(Client.predict)
    classify = _awaited(Client.classify)
    classify_each = _awaited(Client.classify_each)
    status = _awaited(Client.status)
    ready = _awaited(Client.ready)
    wait_until_available = _awaited(Client.wait_until_available)
    metadata = _awaited(Client.metadata)
    reload = _awaited(Client.reload)

    async def close(self) -> None:
        """Close the connection and cancel the calls in flight."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._client.close)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()
