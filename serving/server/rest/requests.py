"""Requests over HTTP: pages of other sites are refused, and bodies are read within limits."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any
from urllib.parse import urlsplit

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from imgpipe.serving.server import ports, status
from imgpipe.serving.server.calls import Call, Calls, Place
from imgpipe.serving.server.status import Code, StatusError

_HOST_SHOWN = 100
"""Characters of the name of a host that a message quotes."""
_DISCARD_S = 1.0
"""Seconds in which the rest of a refused body is still read. A client that still sends when the
connection ends never sees the answer (RFC 9112, section 9.6)."""
_HTTP_STATUS: dict[int, int] = {
    Code.INVALID_ARGUMENT: 400,
    Code.FAILED_PRECONDITION: 400,
    Code.OUT_OF_RANGE: 400,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.ABORTED: 409,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.CANCELLED: 499,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}
"""HTTP status by status code, as in model_servers/http_server.cc; 500 for all other codes."""
_BY_PROXIES = frozenset(["forwarded", "via", "x-real-ip", "client-ip", "true-client-ip"])
"""Headers that proxies add to requests that they pass on, besides those of `X-Forwarded-…`."""
Work = Callable[[Place, bytes], Awaitable[Response]]
"""Makes the answer of a request in its place and of its body."""


class HttpError(StatusError):
    """An error with an HTTP status of its own, such as 413."""

    def __init__(self, http_status: int, code: int, message: str) -> None:
        super().__init__(code, message)
        self.http_status = http_status


def too_large(excess: str) -> HttpError:
    """Return the error for a body that is larger than allowed."""
    return HttpError(413, Code.RESOURCE_EXHAUSTED, f"The body of the request {excess}")


def json_response(content: Any, headers: dict[str, str] | None = None, code: int = 200) -> Response:
    """Return an answer with JSON."""
    return Response(orjson.dumps(content), code, headers, "application/json")


def plain_route(path: str, answer: Callable[[], Response]) -> Route:
    """Return a route whose answer does not depend on the request."""

    async def endpoint(request: Request) -> Response:
        return answer()

    return Route(path, endpoint)


def refusal(error: StatusError) -> Response:
    """Return the answer to a failed request, `{"error": MESSAGE}`."""
    code = getattr(error, "http_status", 0) or _HTTP_STATUS.get(error.code, 500)
    return json_response({"error": error.message}, code=code)


def is_of_another_site(request: Request) -> bool:
    """Return whether a page of another site sends a request.

    A browser adds the Origin of the page. It asks (CORS) before it sends JSON to another site, but
    not before it sends text.
    """
    headers = request.headers
    # Pages cannot set Sec-Fetch-Site themselves. Proxies may add the port to Host, or replace it.
    if "origin" not in headers or headers.get("sec-fetch-site") == "same-origin":
        return False
    scheme, _, host = headers["origin"].partition("://")
    port = ":443" if scheme == "https" else ":80"
    return not host or host.removesuffix(port) != headers.get("host", "").removesuffix(port)


def is_passed_on(request: Request) -> bool:
    """Return whether a proxy has passed a request on, as far as its headers tell it.

    Either the proxy says so, or the page was not opened under a name of this machine.
    """
    headers = request.headers
    origin = headers.get("origin", "").rpartition("//")[2]
    hosts = (headers.get("host", "localhost"), origin or "localhost")
    return not all(_is_own_name(_host_of(host)) for host in hosts) or any(
        name in _BY_PROXIES or name.startswith("x-forwarded") for name in headers
    )


def check_host(request: Request, allowed: Collection[str]) -> None:
    """Check that a request from this machine names no other host.

    A page of another site may have a name that leads to this machine (DNS rebinding), and its
    Origin is then that of the Host header. Connections from this machine must therefore name it
    `localhost`, by its address, by its own name, or by one that is allowed, in the form of
    `host_name`: `.example.com` allows example.com and all that end with .example.com, and `*` any
    name. Only programs send no Host header. Another name is a StatusError.
    """
    here, _ = request.scope.get("server") or ("", 0)
    sent = request.headers.get("host", "localhost")
    named = _host_of(sent)
    if _is_own_name(named) or not ports.is_loopback(here):
        return
    if not any(
        name in ("*", named) or (name.startswith(".") and f".{named}".endswith(name))
        for name in allowed
    ):
        raise StatusError(
            Code.PERMISSION_DENIED,
            f"The request names the host {sent[:_HOST_SHOWN]!r}, as a page of another site may do. "
            "On this machine, the server is localhost. imgpipe serve --allowed-host NAME allows "
            "another name, such as one that a proxy on this machine passes on.",
        )


def _host_of(sent: str) -> str:
    """Return the host in a header."""
    try:
        return host_name(sent)
    except ValueError:  # urlsplit refuses addresses such as "[::1"
        return sent


def _is_own_name(host: str) -> bool:
    return ports.is_loopback(host) or host == host_name(socket.gethostname())


def host_name(address: str) -> str:
    """Return the host in `HOST[:PORT]`, in lower case and without the dot of a complete name."""
    return (urlsplit(f"//{address}").hostname or "").rstrip(".")


class Bodies:
    """Reads bodies, of at most `most` bytes each, for which there is room."""

    def __init__(self, calls: Calls, most: int) -> None:
        self._most = most
        self._calls = calls

    async def answer(self, request: Request, call: Call, work: Work) -> Response:
        """Return what `work` makes of the body of a request, or the refusal."""
        call.deadline = time.monotonic() + self._calls.body_seconds
        try:
            with self._calls.place(call) as place:
                return await self._in_time(request, call, place, work)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        except StatusError as error:
            answer = refusal(error)
        if not call.has_arrived:
            await _discard(request)
            answer.headers["Connection"] = "close"  # the rest of the body may be endless
        return answer

    async def _in_time(self, request: Request, call: Call, place: Place, work: Work) -> Response:
        seconds = self._calls.body_seconds
        try:
            async with asyncio.timeout(seconds):
                _check_site(request)
                body = await self._read(request, place)
                call.has_arrived = True
                return await work(place, body)
        except TimeoutError:
            what = "answered" if call.has_arrived else "complete"
            text = f"The request was not {what} within {seconds:g} s."
            code = 504 if call.has_arrived else 408
            raise HttpError(code, Code.DEADLINE_EXCEEDED, text) from None

    async def _read(self, request: Request, place: Place) -> bytes:
        size = self._announced(request)
        # Without its length, a body may be of any size that is allowed.
        await place.hold(self._most if size is None else size)
        parts: list[bytes] = []
        held = 0
        stream = request.stream()
        with contextlib.suppress(StopAsyncIteration):
            while True:
                part = await place.arriving(anext(stream), held)
                held += len(part)
                self._check_size(held)
                parts.append(part)
        place.keep(held)
        return b"".join(parts)

    def _announced(self, request: Request) -> int | None:
        """Return the length that a request announces; None without one."""
        headers = request.headers
        if {"content-length", "transfer-encoding"} <= set(headers):  # RFC 9112, section 6.1
            raise status.invalid("A request has one length.")
        encoding = headers.get("content-encoding", "identity").lower()
        if encoding != "identity":
            raise status.invalid(
                f"The body of a request is not compressed. Received: Content-Encoding: "
                f"{encoding[:40]}. Send the body as it is, without this header, or let a proxy in "
                "front of the server decompress it."
            )
        if "transfer-encoding" in headers:
            return None
        announced = headers.get("content-length", "")
        # 20 digits are more than any limit; int() raises ValueError for more than 4,300 digits.
        size = int(announced[:20]) if announced.isdecimal() else 0
        self._check_size(size)
        return size

    def _check_size(self, size: int) -> None:
        if size > self._most:
            raise too_large(f"is larger than {self._most >> 20} MiB. Send fewer rows at once.")


def _check_site(request: Request) -> None:
    if is_of_another_site(request):
        raise StatusError(
            Code.PERMISSION_DENIED,
            "The request seems to come from a page of another site. If it is your own, let a "
            "proxy on another machine keep the Host header, or use HTTPS.",
        )


async def _discard(request: Request) -> None:
    # Starlette raises RuntimeError where the stream has ended.
    with contextlib.suppress(TimeoutError, ClientDisconnect, RuntimeError):
        async with asyncio.timeout(_DISCARD_S):
            async for _ in request.stream():
                pass
