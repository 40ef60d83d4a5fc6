"""The HTTP interface of a review: its page, its images and its answers.

The page is public, but contains nothing of the run. Everything else needs the token of the address
that `imgpipe review` prints, so that neither a page of another site nor another user of this
machine can read images or answer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import hmac
import json
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from imgpipe.components.common.image_record import PlacedImage
from imgpipe.components.example_gen.sources import Item, Source
from imgpipe.components.report.pictures import thumbnails
from imgpipe.models.errors import ImgpipeError
from imgpipe.pipeline.review.questions import Decisions, RefusedAnswer
from imgpipe.serving.server.rest.port import HttpPort, host_to_open
from imgpipe.serving.server.rest.requests import is_of_another_site
from imgpipe.serving.server.web import pages

#: Longer side in pixels of an image on the page, and quality of its JPEG.
_SIDE = 1280
_SMALL_SIDE = 320  # of one of many images
_QUALITY = 88
TOKEN = "X-Imgpipe-Token"
_STOP_S = 5.0  # seconds for the last answers


class Images:
    """Images by content hash. Nothing else of the source can be read through it.

    Args:
        source: The source of the run, which may be an archive or TFRecord files.
        shown: The images that may be read, by hash.
    """

    def __init__(self, source: Source, shown: Mapping[str, PlacedImage]) -> None:
        self._source = source
        self._shown = shown
        self._listing = threading.Lock()
        self._items: dict[str, Item] | None = None

    def jpeg(self, image_hash: str, side: int) -> bytes:
        """Return an image as the model sees it, shrunk to a JPEG that is safe to show.

        Args:
            image_hash: Hash of an image that the page shows.
            side: Length of its longer side in pixels; a smaller image is not enlarged.

        Raises:
            Refused: It is not one of the images, or its file is gone, has changed or is damaged.
            ImgpipeError: The source of the images cannot be read.
        """
        # The hash comes from the browser, and must not become a way to read other files.
        if image_hash not in self._shown:
            raise RefusedAnswer("This review does not show this image.", 404)
        image = thumbnails.shrunk(self._content(image_hash), side, _QUALITY)
        if not image:
            raise RefusedAnswer(
                "The file cannot be shown, because it is damaged or very large.", 404
            )
        return image

    def _content(self, image_hash: str) -> bytes:
        with self._listing:  # the browser asks for several images at the same time
            if self._items is None:
                wanted = {image["path"] for image in self._shown.values()}
                items = self._source.listing().items
                self._items = {item.path: item for item in items if item.path in wanted}
        item = self._items.get(self._shown[image_hash]["path"])
        if item is None:
            raise RefusedAnswer("The file is no longer in the source. Run the pipeline again.", 404)
        try:
            data = self._source.read(item)
        except OSError as error:
            raise RefusedAnswer(
                f"The file cannot be read: {error.strerror or error}.", 404
            ) from error
        if hashlib.sha256(data).hexdigest() != image_hash:
            raise RefusedAnswer("The file has changed since the run. Run the pipeline again.", 404)
        return data


@dataclass(frozen=True)
class Review:
    """What the page needs."""

    run: str  # name of the run
    apply: str  # the command that applies the decisions
    decisions: Decisions
    images: Images
    token: str  # the secret in the address of the page


def make_app(review: Review) -> Starlette:
    """Return the ASGI application of a review."""

    # Reading files would hold up all other requests, so it is done in threads.
    async def state(request: Request) -> Response:
        return _json(await run_in_threadpool(describe, review))

    async def image(request: Request) -> Response:
        return await jpeg(request.path_params["hash"], _SIDE)

    async def small_image(request: Request) -> Response:
        return await jpeg(request.path_params["hash"], _SMALL_SIDE)

    async def jpeg(image_hash: str, side: int) -> Response:
        data = await run_in_threadpool(review.images.jpeg, image_hash, side)
        return Response(data, headers=pages.HEADERS, media_type="image/jpeg")

    async def answer(request: Request) -> Response:
        try:
            given = await request.json()  # of a person who knows the token
            values = [given.get(key, "") for key in ("image", "verdict", "label")]
        except (ValueError, AttributeError, RecursionError):
            values = [None]
        if not all(isinstance(value, str) for value in values):
            raise RefusedAnswer(
                'An answer is JSON: {"image": HASH, "verdict": WORD, "label": CLASS}.'
            )
        made = await run_in_threadpool(review.decisions.answer, *values)
        return _json({"answer": dataclasses.asdict(made)})

    async def undo(request: Request) -> Response:
        return _json({"image": await run_in_threadpool(review.decisions.undo)})

    def route(path: str, handle: _Handler, method: str) -> Route:
        return Route(path, _guarded(review.token, handle), methods=[method])

    return Starlette(
        routes=[
            *pages.routes("imgpipe.pipeline.review"),
            route("/review", state, "GET"),
            route("/review/images/{hash}", image, "GET"),
            route("/review/images/{hash}/small", small_image, "GET"),
            route("/review/answers", answer, "POST"),
            route("/review/undo", undo, "POST"),
        ]
    )


def describe(review: Review) -> dict[str, Any]:
    """Return the questions and the answers so far, as the page reads them."""
    decisions = review.decisions
    asked = decisions.questions
    answers = {name: dataclasses.asdict(answer) for name, answer in decisions.answers().items()}
    return {
        "run": review.run,
        "file": str(decisions.file),
        "apply": review.apply,
        "classes": list(asked.classes),
        "not_asked": asked.not_asked,
        "typical": dict(asked.typical),
        "questions": [
            dataclasses.asdict(question) | {"answer": answers.get(question.image["image_hash"])}
            for question in asked.asked
        ],
    }


_Handler = Callable[[Request], Awaitable[Response]]


def _guarded(token: str, handle: _Handler) -> _Handler:
    """Refuse requests without the token and those of other sites, and answer errors as JSON."""

    async def guarded(request: Request) -> Response:
        try:
            # As bytes and in constant time: the time of `==` tells how many characters are right.
            given = request.headers.get(TOKEN, "").encode("latin-1")
            if is_of_another_site(request) or not hmac.compare_digest(given, token.encode()):
                raise RefusedAnswer("Open the page at the address that imgpipe review prints.", 403)
            return await handle(request)
        except RefusedAnswer as error:
            return _json({"error": str(error)}, error.status)
        except ImgpipeError as error:  # the file was edited, or is being edited
            return _json({"error": str(error)}, 409)
        except OSError as error:
            why = error.strerror or str(error)
            return _json({"error": f"The decision could not be saved: {why}."}, 500)

    return guarded


def _json(content: Any, status: int = 200) -> Response:
    # Names that are not UTF-8 hold lone surrogates, which only JSON's escapes can express.
    text = json.dumps(content, separators=(",", ":"))
    return Response(text, status, pages.HEADERS, "application/json")


@contextlib.contextmanager
def running(review: Review, host: str, port: int) -> Iterator[tuple[str, HttpPort]]:
    """Serve a review while the context lasts, on any free port for port 0.

    Yields:
        The address of the page with its token, and the port.

    Raises:
        ResourceError: The address cannot be bound.
    """
    served = HttpPort(host, port, "--port 0 takes any free one")
    served.start(make_app(review))
    try:
        # Browsers do not send what follows #, so that the token is in no request line and no log.
        yield f"http://{host_to_open(host)}:{served.port}/#{review.token}", served
    finally:
        served.stop(_STOP_S)
