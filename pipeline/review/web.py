"""The HTTP interface of a review: its page, its images and its answers.

The page is public, but contains nothing of the run. Everything else needs the token of the address
that ``imgpipe review`` prints, so that neither a page of another site nor another user of this
machine can read images or answer.
"""

from __future__ import annotations

import dataclasses
import hmac
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.pipeline.review.decisions import Decisions, Refused
from imgpipe.pipeline.review.images import Images, NoImage
from imgpipe.serving.server.rest.requests import is_foreign
from imgpipe.serving.server.web import pages

TOKEN = "X-Imgpipe-Token"
_LARGEST = 16 << 10  # bytes of an answer


@dataclass(frozen=True)
class Review:
    """What the page needs.

    Attributes:
        run: Name of the run.
        apply: The command that applies the decisions.
        decisions: The questions and their answers.
        images: The images.
        token: The secret in the address of the page.
    """

    run: str
    apply: str
    decisions: Decisions
    images: Images
    token: str


class _Denied(Exception):
    """A request that is refused."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def make_app(review: Review) -> Starlette:
    """Return the ASGI application of a review."""

    # Reading files would hold up all other requests, so it is done in threads.
    async def state(request: Request) -> Response:
        return _json(await run_in_threadpool(describe, review))

    async def image(request: Request) -> Response:
        try:
            data = await run_in_threadpool(review.images.jpeg, request.path_params["hash"])
        except NoImage as error:
            raise _Denied(404, str(error)) from error
        return Response(data, headers=pages.HEADERS, media_type="image/jpeg")

    async def answer(request: Request) -> Response:
        given = await _body(request)
        made = await run_in_threadpool(review.decisions.answer, *given)
        return _json({"answer": dataclasses.asdict(made)})

    async def undo(request: Request) -> Response:
        return _json({"image": await run_in_threadpool(review.decisions.undo)})

    def route(path: str, handle: _Handler, method: str) -> Route:
        return Route(path, _guarded(review.token, handle), methods=[method])

    return Starlette(
        routes=[
            *pages.routes("imgpipe.pipeline.review"),
            pages.style(),
            route("/review", state, "GET"),
            route("/review/images/{hash}", image, "GET"),
            route("/review/answers", answer, "POST"),
            route("/review/undo", undo, "POST"),
        ]
    )


def describe(review: Review) -> dict[str, Any]:
    """Return the questions and the answers so far, as the page reads them."""
    decisions = review.decisions
    asked = decisions.questions
    answers = {name: dataclasses.asdict(one) for name, one in decisions.answers().items()}
    return {
        "run": review.run,
        "file": str(decisions.file),
        "apply": review.apply,
        "classes": list(asked.classes),
        "unusable": asked.unusable,
        "left_out": asked.left_out,
        "questions": [
            dataclasses.asdict(one) | {"answer": answers.get(one.image.image_hash)}
            for one in asked.asked
        ],
    }


_Handler = Callable[[Request], Awaitable[Response]]


def _guarded(token: str, handle: _Handler) -> _Handler:
    """Refuse requests without the token and those of other sites, and answer errors as JSON."""

    async def guarded(request: Request) -> Response:
        try:
            # As bytes and in constant time: the time of `==` tells how many characters are right.
            given = request.headers.get(TOKEN, "").encode("latin-1")
            if is_foreign(request) or not hmac.compare_digest(given, token.encode()):
                raise _Denied(403, "Open the page at the address that imgpipe review prints.")
            return await handle(request)
        except _Denied as error:
            return _json({"error": str(error)}, error.status)
        except Refused as error:
            return _json({"error": str(error)}, 400)
        except (ConfigError, ResourceError) as error:  # the file was edited, or is being edited
            return _json({"error": str(error)}, 409)
        except OSError as error:
            why = error.strerror or str(error)
            return _json({"error": f"The decision could not be saved: {why}."}, 500)

    return guarded


async def _body(request: Request) -> tuple[str, str, str]:
    """Read an answer: hash of the image, verdict and label."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > _LARGEST:  # while it is read, since the header may name no length
            raise _Denied(413, f"An answer has at most {_LARGEST:,} bytes.")
    try:
        given = json.loads(data)
        values = [given.get(key, "") for key in ("image", "verdict", "label")]
    except (ValueError, AttributeError, RecursionError):
        values = [None]
    if not all(isinstance(value, str) for value in values):
        raise _Denied(400, 'An answer is JSON: {"image": HASH, "verdict": WORD, "label": CLASS}.')
    image, verdict, label = values
    return image, verdict, label


def _json(content: Any, status: int = 200) -> Response:
    # Names that are not UTF-8 hold lone surrogates, which only JSON's escapes can express.
    text = json.dumps(content, separators=(",", ":"))
    return Response(text, status, pages.HEADERS, "application/json")
