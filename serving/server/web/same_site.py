"""Requests of a page that this server sent. Those of pages of other sites are refused."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator, Awaitable
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from imgpipe.serving.server.rest import body as bodies
from imgpipe.serving.server.status import Code, StatusError, invalid


def is_foreign(request: Request) -> bool:
    """Return whether a request comes from a page that this server did not send.

    A page of another site has another Origin. A name that another site has pointed at this machine
    (DNS rebinding) has the same Origin as the Host header, so that connections from this machine
    must name it ``localhost`` or by its address.
    """
    host = request.headers.get("host", "")
    origin = request.headers.get("origin")
    here, _ = request.scope.get("server") or ("", 0)
    try:
        if origin is not None and urlsplit(origin).netloc != host:
            return True
        return _is_loopback(here) and not _is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:  # urlsplit refuses addresses such as "[::1"
        return True


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextlib.asynccontextmanager
async def body_of(
    request: Request, most: int, budget: bodies.Budget, *, foreign: str, large: str
) -> AsyncIterator[bytes]:
    """Read the body of a request, which takes its size from ``budget`` until the context ends.

    Args:
        request: The request.
        most: Largest allowed size in bytes.
        budget: The budget of all bodies of the endpoint.
        foreign: Message for requests of pages of other sites.
        large: Message for bodies that are too large.

    Raises:
        StatusError: The request comes from another site, or its body is too large.
        ClientDisconnected: The client closed the connection.
    """
    try:
        if is_foreign(request):
            raise StatusError(Code.PERMISSION_DENIED, foreign)
        announced = request.headers.get("content-length", "")
        body = await bodies.read(request.receive, announced, most, budget)
    except StatusError as error:
        await bodies.discard(request.receive)
        if isinstance(error, bodies.TooLarge):
            raise invalid(large) from error
        raise
    try:
        yield body
    finally:
        budget.give_back(len(body))


async def answered(response: Awaitable[Response], seconds: float, late: str) -> Response:
    """Return a response, or the answer that says why there is none.

    Args:
        response: Makes the response.
        seconds: Time limit.
        late: Message for a response that takes longer.
    """
    try:
        async with asyncio.timeout(seconds):
            return await response
    except bodies.ClientDisconnected:
        return Response(status_code=400)  # nobody reads it
    except TimeoutError:
        return _refusal(StatusError(Code.DEADLINE_EXCEEDED, late))
    except StatusError as error:
        return _refusal(error)


def _refusal(error: StatusError) -> Response:
    """Return an answer that closes the connection, because the body may not have been read."""
    # It imports TensorFlow, which `imgpipe review` does not need for `is_foreign`.
    from imgpipe.serving.server.rest.api import failure

    answer = failure(error)
    return Response(answer.text, answer.status, {"Connection": "close"}, "application/json")
