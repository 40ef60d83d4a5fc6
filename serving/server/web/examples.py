"""Images that a person who starts the server has allowed everybody at the page to see.

The page asks `/web/examples`: `GET` answers `{"count": N}`, and `/web/examples/I` is the I-th of
them, from 0. Pages of other sites cannot show them, because of `pages.HEADERS`.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from imgpipe.serving.server.rest.requests import json_response
from imgpipe.serving.server.web import pages

PATH = "/web/examples"


def routes(images: Sequence[bytes]) -> list[Route]:
    """Return the routes of the examples, which are JPEG files."""

    async def describe(request: Request) -> Response:
        return json_response({"count": len(images)})

    async def image(request: Request) -> Response:
        number = request.path_params["number"]
        if number >= len(images):
            return Response(status_code=404)
        return Response(images[number], headers=pages.HEADERS, media_type="image/jpeg")

    return [Route(PATH, describe), Route(f"{PATH}/{{number:int}}", image)]
