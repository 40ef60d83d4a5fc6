"""The HTTP interface of a review: its page, its images and its answers.

The page is public, but contains nothing of the run. Everything else needs the token of the address
that `imgpipe review` prints, so that neither a page of another site nor another user of this
machine can read images or answer.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from imgpipe.components.example_gen.sources import Images, Item
from imgpipe.components.report.pictures import thumbnails
from imgpipe.models.errors import ImgpipeError
from imgpipe.pipeline.review.decisions import Decisions, RefusedAnswer
from imgpipe.pipeline.review.images import UNDECIDED, ImageView, ReviewDecision, ReviewedImage
from imgpipe.serving.server.rest.port import HttpPort, host_to_open
from imgpipe.serving.server.rest.requests import is_of_another_site
from imgpipe.serving.server.web import pages

#: Longer side in pixels of an image on the page, and quality of its JPEG.
_SIDE = 1280
_SMALL_SIDE = 320  # of one of many images
_QUALITY = 88
PAGE = 120  # images that the page shows at once
TOKEN = "X-Imgpipe-Token"
_STOP_S = 5.0  # seconds for the last answers


class ShownImages:
    """Images by content hash. Nothing else of the source can be read through it.

    Args:
        listed: Function that lists the images of the run's source.
        shown: The images that may be read, by hash.
    """

    def __init__(self, listed: Callable[[], Images], shown: Mapping[str, ReviewedImage]) -> None:
        self._listed = listed
        self._shown = shown
        self._listing = threading.Lock()
        self._images: Images | None = None
        self._items: dict[str, Item] = {}

    def jpeg(self, image_hash: str, side: int) -> bytes:
        """Return an image as the model sees it, shrunk to a JPEG that is safe to show.

        `side` is the length of its longer side in pixels; a smaller image is not enlarged. A
        RefusedAnswer says that the page does not show it, or that its file is gone, has changed or
        is damaged, and an ImgpipeError that the source of the images cannot be read.
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
            if self._images is None:
                self._images = self._listed()
                self._items = {item.path: item for item in self._images.items}
        item = self._items.get(self._shown[image_hash].path)
        if item is None:
            raise RefusedAnswer("The file is no longer in the source. Run the pipeline again.", 404)
        try:
            data = self._images.reader.read(item)
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
    images: ShownImages
    token: str  # the secret in the address of the page
    view: ImageView  # what the page shows first


def make_app(review: Review) -> Starlette:
    """Return the ASGI application of a review."""

    # Reading files would hold up all other requests, so it is done in threads.
    async def state(request: Request) -> Response:
        return _json(await run_in_threadpool(describe, review))

    async def images(request: Request) -> Response:
        return _json(await run_in_threadpool(describe_page, review, request.query_params))

    async def picture(request: Request) -> Response:
        side = _SMALL_SIDE if "small" in request.query_params else _SIDE
        data = await run_in_threadpool(review.images.jpeg, request.path_params["hash"], side)
        return Response(data, headers=pages.HEADERS, media_type="image/jpeg")

    async def answer(request: Request) -> Response:
        hashes, decision = _given(await request.body())
        changed = await run_in_threadpool(review.decisions.answer, hashes, decision)
        return _json(await run_in_threadpool(describe_decisions, review, changed))

    async def undo(request: Request) -> Response:
        changed = await run_in_threadpool(review.decisions.undo)
        return _json(await run_in_threadpool(describe_decisions, review, changed))

    def route(path: str, handle: _Handler, method: str) -> Route:
        return Route(path, _guarded(review.token, handle), methods=[method])

    return Starlette(
        routes=[
            *pages.routes("imgpipe.pipeline.review"),
            route("/review", state, "GET"),
            route("/review/images", images, "GET"),
            route("/review/pictures/{hash}", picture, "GET"),
            route("/review/answers", answer, "POST"),
            route("/review/undo", undo, "POST"),
        ]
    )


def _given(body: bytes) -> tuple[list[str], ReviewDecision]:
    """Return the images and the decision of an answer, of a person who knows the token."""
    try:
        answer = json.loads(body)
        hashes = answer["images"]
        decision: ReviewDecision = {"verdict": answer["verdict"], "label": answer["label"]}
        texts = [*hashes, *decision.values()]
    except (ValueError, KeyError, TypeError, RecursionError):
        texts = [None]
    if not all(isinstance(text, str) for text in texts):
        raise RefusedAnswer(
            'An answer is JSON: {"images": [HASH, …], "verdict": WORD, "label": CLASS}.'
        )
    return hashes, decision


def describe(review: Review) -> dict[str, object]:
    """Return the run, the kinds of its images and what is decided, as the page reads them."""
    decisions = review.decisions
    images = decisions.images
    return {
        "run": review.run,
        "file": str(decisions.file),
        "apply": review.apply,
        "classes": images.classes,
        "kinds": images.counts(decisions.made()),
        "cells": images.cells,
        "decided": decisions.counts(),
        "typical": images.typical,
        "view": review.view._asdict(),
        "page": PAGE,
    }


def describe_decisions(review: Review, hashes: Sequence[str]) -> dict[str, object]:
    """Return what is decided about some images, and the number of all images by verdict."""
    made = review.decisions.made()
    decided = {image_hash: made.get(image_hash, UNDECIDED) for image_hash in hashes}
    return {"decisions": decided, "decided": review.decisions.counts()}


def describe_page(review: Review, query: Mapping[str, str]) -> dict[str, object]:
    """Return some images of a view with their decisions, and the number of all of them.

    A view that does not exist raises RefusedAnswer.
    """
    try:
        view = ImageView(**{name: query[name] for name in ImageView._fields if name in query})
        start = max(0, int(query.get("start", "0")))
        made = review.decisions.made()
        rows = review.decisions.images.view(view, made)
    except (ValueError, KeyError) as error:
        raise RefusedAnswer(f"There is no such view of the images: {error}.") from error
    shown = map(review.decisions.images.shown, rows[start : start + PAGE])
    listed = [{**image, "decision": made.get(image["image_hash"], UNDECIDED)} for image in shown]
    return {"total": len(rows), "start": start, "images": listed}


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


def _json(content: object, status: int = 200) -> Response:
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
        yield address(review, host, served.port), served
    finally:
        served.stop(_STOP_S)


def address(review: Review, host: str, port: int, by_others: bool = False) -> str:
    """Return the address of the page with its token, for this machine or for others."""
    # Browsers do not send what follows #, so that the token is in no request line and no log.
    return f"http://{host_to_open(host, by_others)}:{port}/#{review.token}"
