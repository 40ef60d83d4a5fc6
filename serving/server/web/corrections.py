"""``/web/corrections``: takes images whose labels people correct on the page.

``GET`` answers ``{"collects": true}`` where the server collects images. ``POST`` takes an encoded
image as its body, with the query ``?model=NAME&version=N&label=CLASS``, and answers with the path
of the image in the folder. Pages of other sites are refused, because a browser would send their
requests too.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from imgpipe.serving.server.requests.pool import SheddingPool
from imgpipe.serving.server.requests.predict import Spec
from imgpipe.serving.server.rest import body as bodies
from imgpipe.serving.server.status import invalid
from imgpipe.serving.server.web import same_site
from imgpipe.serving.server.web.collection import MAX_IMAGE_BYTES, Collection, Correction

PATH = "/web/corrections"
_AT_ONCE = 4
"""Number of images of the largest size that fit into memory at once."""
_FOREIGN = (
    "Images are only taken from the page of this server. Open that page at the address that the "
    "server shows when it starts."
)
_LARGE = f"The image is larger than {MAX_IMAGE_BYTES >> 20} MiB, so it is not kept."


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
    keep, budget = collection.keep, bodies.Budget(_AT_ONCE * MAX_IMAGE_BYTES)
    late = f"The image was not kept within {timeout:g} s."

    async def kept(request: Request) -> Response:
        body = same_site.body_of(request, MAX_IMAGE_BYTES, budget, foreign=_FOREIGN, large=_LARGE)
        async with body as data:
            correction = Correction(*version_and_label(request), data)
            path = await pool.run(lambda: keep(correction), len(data))
        return JSONResponse({"path": path})

    async def take(request: Request) -> Response:
        return await same_site.answered(kept(request), timeout, late)

    return [Route(PATH, describe), Route(PATH, take, methods=["POST"])]


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
