"""``/web/corrections``: takes images whose labels people correct on the page.

``GET`` answers ``{"collects": true}`` where the server collects images. ``POST`` takes an encoded
image as its body, with the query ``?model=NAME&version=N&label=CLASS``, and answers with the path
of the image in the folder. Pages of other sites are refused, because a browser would send their
requests too.
"""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from imgpipe.serving.server.requests.handle import Spec
from imgpipe.serving.server.requests.pool import SheddingPool
from imgpipe.serving.server.rest import body as bodies
from imgpipe.serving.server.rest.api import failure
from imgpipe.serving.server.status import Code, StatusError, invalid
from imgpipe.serving.server.web import same_site
from imgpipe.serving.server.web.collection import MAX_IMAGE_BYTES, Collection, Correction

PATH = "/web/corrections"
_AT_ONCE = 4
"""Number of images of the largest size that fit into memory at once."""


def routes(collection: Collection | None, pool: SheddingPool, timeout: float) -> list[Route]:
    """Return the routes of the endpoint.

    Args:
        collection: The folder of images; None if the server collects none.
        pool: The threads of the requests.
        timeout: Seconds from the head of a request to its answer.
    """

    async def describe(request: Request) -> Response:
        return JSONResponse({"collects": collection is not None})

    if collection is None:
        return [Route(PATH, describe)]
    receiver = _Receiver(collection, pool, timeout)
    return [Route(PATH, describe), Route(PATH, receiver.take, methods=["POST"])]


class _Receiver:
    """Receives corrections, as many at once as fit into a bounded memory."""

    def __init__(self, collection: Collection, pool: SheddingPool, timeout: float) -> None:
        self._collection, self._pool, self._timeout = collection, pool, timeout
        self._budget = bodies.Budget(_AT_ONCE * MAX_IMAGE_BYTES)

    async def take(self, request: Request) -> Response:
        try:
            async with asyncio.timeout(self._timeout):
                return JSONResponse({"path": await self._keep(request)})
        except bodies.ClientDisconnected:
            return Response(status_code=400)  # nobody reads it
        except TimeoutError:
            late = f"The image was not kept within {self._timeout:g} s."
            return _refusal(StatusError(Code.DEADLINE_EXCEEDED, late))
        except StatusError as error:
            return _refusal(error)

    async def _keep(self, request: Request) -> str:
        try:
            _check_site(request)
            spec, label = version_and_label(request)
            data = await self._image(request)
        except StatusError:
            await bodies.discard(request.receive)
            raise
        correction = Correction(spec, label, data)
        try:
            keep = self._collection.keep
            return await self._pool.run(lambda: keep(correction, self._timeout), len(data))
        finally:
            self._budget.give_back(len(data))

    async def _image(self, request: Request) -> bytes:
        announced = request.headers.get("content-length", "")
        try:
            return await bodies.read(request.receive, announced, MAX_IMAGE_BYTES, self._budget)
        except bodies.TooLarge as error:
            most = MAX_IMAGE_BYTES >> 20
            raise invalid(f"The image is larger than {most} MiB, so it is not kept.") from error


def _refusal(error: StatusError) -> Response:
    """Return an answer that closes the connection, because the body may not have been read."""
    answer = failure(error)
    return Response(answer.text, answer.status, {"Connection": "close"}, "application/json")


def version_and_label(request: Request) -> tuple[Spec, str]:
    """Return the version and the class of a request.

    Raises:
        StatusError: The query names no model or no label, or the version is not a number.
    """
    query = request.query_params
    version, label = query.get("version", ""), query.get("label", "")
    if not query.get("model") or not label:
        raise invalid("A correction names a model and a label: ?model=NAME&version=N&label=CLASS.")
    # A number of 18 digits always fits an int64.
    if version and not (version.isdecimal() and len(version) < 19):
        raise invalid(f"A version is a whole number. Received: {version[:40]!r}.")
    return Spec(query["model"], int(version) if version else None), label


def _check_site(request: Request) -> None:
    if same_site.is_foreign(request):
        raise StatusError(
            Code.PERMISSION_DENIED,
            "Images are only taken from the page of this server. Open that page at the address "
            "that the server shows when it starts.",
        )
