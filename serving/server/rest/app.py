"""The ASGI application around the REST API: health checks, metrics and the list of models.

The health check URLs need neither a model nor a free thread:

* ``/v1/health/live``, ``/v2/health/live``: the process answers;
* ``/v1/health/ready``, ``/v2/health/ready``: every model has a version that answers, and the
  server is not stopping; otherwise 503. The ``/v2`` URLs are those of KServe's protocol v2.

Pages beside the API (metrics, the list of models) are made when they are asked for.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from imgpipe.serving.server.requests.pool import Refused, SheddingPool
from imgpipe.serving.server.rest import body as bodies
from imgpipe.serving.server.rest import paths
from imgpipe.serving.server.rest.api import Answer, Api, RestRequest, failure
from imgpipe.serving.server.rest.options import MAX_BODY_BYTES
from imgpipe.serving.server.settings import Settings
from imgpipe.serving.server.status import Code, StatusError

VERSION_HEADER = "Model-Version"
"""Header with the version that answered, which TensorFlow Serving's JSON does not contain."""
_BODIES_AT_ONCE = 4
"""Number of bodies of the largest allowed size that fit into memory at once."""
_MIN_GZIP_BYTES = 1024
"""Shorter answers are not compressed."""
_GZIP_LEVEL = 4
_ACCEPTS_GZIP = re.compile(r"\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))", re.IGNORECASE)
"""An Accept-Encoding with gzip, unless its weight is 0 (RFC 9110, section 12.4.2)."""
_LATE_S = 0.05
"""Extra seconds after the deadline, in which the run itself can report it."""
_TIMED_OUT = 408
_FOREIGN = (
    "The request seems to come from a page of another site. If it is your own, send Content-Type: "
    "application/json, or let the proxy keep the Host header."
)


@dataclass(frozen=True)
class Page:
    """A page whose text is created for each request."""

    path: str
    make: Callable[[], str]
    media_type: str = "text/plain"

    async def show(self, request: Request) -> Response:
        """Answer a request for the page."""
        return Response(self.make(), media_type=self.media_type)


class Endpoint:
    """Everything under ``/v1/``, and 404 for the rest."""

    def __init__(self, api: Api, pool: SheddingPool, settings: Settings) -> None:
        self._api, self._pool, self._timeout = api, pool, settings.rest_timeout
        self._budget = bodies.Budget(_BODIES_AT_ONCE * MAX_BODY_BYTES)
        self.draining = False
        self.running = 0
        """Number of requests without an answer so far."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI."""
        self.running += 1
        try:
            response = await self._response(Request(scope, receive))
            if response is not None:
                await response(scope, receive, send)
        finally:
            self.running -= 1

    async def _response(self, request: Request) -> Response | None:
        # The path as it was sent: names of models may contain an encoded slash or colon.
        path = request.scope["raw_path"].decode("latin-1")
        if query := request.scope["query_string"]:
            path += "?" + query.decode("latin-1")
        if not paths.is_api(path):
            return Response(status_code=404)
        peer = ":".join(map(str, request.client)) if request.client else "unix"
        deadline = time.monotonic() + self._timeout
        encoding = request.headers.get("content-encoding", "")
        received = RestRequest(request.method, path, peer, encoding=encoding, deadline=deadline)
        if self.draining:
            error = StatusError(Code.UNAVAILABLE, "The server is stopping. Use another server.")
            await bodies.discard(request.receive)
            return _closing(self._api.refuse(received, error))
        if request.method == "POST" and _is_foreign(request):
            foreign = StatusError(Code.PERMISSION_DENIED, _FOREIGN)
            await bodies.discard(request.receive)
            return _closing(self._api.refuse(received, foreign))
        try:
            async with asyncio.timeout(self._timeout):
                body = await bodies.read(
                    request.receive,
                    request.headers.get("content-length", ""),
                    MAX_BODY_BYTES,
                    self._budget,
                )
        except bodies.ClientDisconnected:
            return None
        except TimeoutError:
            late = StatusError(
                Code.DEADLINE_EXCEEDED,
                f"The request was not complete within {self._timeout:g} s.",
            )
            return _closing(replace(self._api.refuse(received, late), status=_TIMED_OUT))
        except StatusError as error:
            await bodies.discard(request.receive)
            return _closing(self._api.refuse(received, error))
        received = replace(received, body=body)
        try:
            if received.verb == "GET":
                # The status and the metadata of a model need no thread, and are answered while all
                # threads are busy. Handing them to a thread also took more time than the answer.
                return _response(self._api.answer(received), _accepts_gzip(request))
            return await self._run_in_pool(received, request)
        finally:
            self._budget.give_back(len(body))

    async def _run_in_pool(self, received: RestRequest, request: Request) -> Response:
        waiting = True

        # After the body, the next message of ASGI says that the client has left.
        async def watch() -> None:
            nonlocal waiting
            while (await request.receive())["type"] != "http.disconnect":
                pass
            waiting = False

        compress = _accepts_gzip(request)
        received = replace(received, is_active=lambda: waiting)
        watcher = asyncio.create_task(watch())
        try:
            left = received.deadline - time.monotonic() if received.deadline else None
            async with asyncio.timeout(None if left is None else left + _LATE_S):
                return await self._pool.run(lambda: _response(self._api.answer(received), compress))
        except Refused as refusal:
            return _response(self._api.refuse(received, refusal), compress)
        except TimeoutError:
            waiting = False
            late = StatusError(Code.DEADLINE_EXCEEDED, "Deadline exceeded before the answer.")
            return _response(failure(late), compress)
        finally:
            watcher.cancel()


def _is_foreign(request: Request) -> bool:
    """Return whether a page of another site sends a request without asking the server first.

    Browsers ask (CORS) before they send JSON to another site, but not before they send text.
    """
    headers = request.headers
    # Pages cannot set Sec-Fetch-Site themselves. Proxies may add the port to Host, or replace it.
    if "origin" not in headers or headers.get("sec-fetch-site") == "same-origin":
        return False
    scheme, _, host = headers["origin"].partition("://")
    port = ":443" if scheme == "https" else ":80"
    if host and host.removesuffix(port) == headers.get("host", "").removesuffix(port):
        return False
    return not headers.get("content-type", "").lower().startswith("application/json")


def _accepts_gzip(request: Request) -> bool:
    return bool(_ACCEPTS_GZIP.search(request.headers.get("accept-encoding", "")))


def _response(answer: Answer, compress: bool) -> Response:
    content = answer.text.encode("utf-8", "replace")
    headers = {} if answer.version is None else {VERSION_HEADER: str(answer.version)}
    if compress and len(content) >= _MIN_GZIP_BYTES:
        content = gzip.compress(content, _GZIP_LEVEL, mtime=0)  # same answer, same bytes
        headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    return Response(content, answer.status, headers, "application/json")


def _closing(answer: Answer) -> Response:
    """Return an answer that closes the connection, because the rest of the body may be endless."""
    response = _response(answer, compress=False)
    response.headers["Connection"] = "close"
    return response


def make_app(
    api: Endpoint,
    ready: Callable[[], bool],
    pages: Sequence[Page],
    web: Sequence[Route] = (),
) -> Starlette:
    """Return the ASGI application.

    Args:
        api: The endpoint for ``/v1/``.
        ready: Returns whether every model has an available version.
        pages: Further pages, such as the metrics and the list of models.
        web: Routes of the page for people, if there is one.
    """

    async def live(request: Request) -> Response:
        return JSONResponse({"live": True})

    async def is_ready(request: Request) -> Response:
        up = not api.draining and ready()
        return JSONResponse({"ready": up}, 200 if up else 503)

    return Starlette(
        routes=[
            *(Route(f"/{version}/health/live", live) for version in ("v1", "v2")),
            *(Route(f"/{version}/health/ready", is_ready) for version in ("v1", "v2")),
            *(Route(page.path, page.show) for page in pages),
            *web,
            Mount("/", api),
        ]
    )
