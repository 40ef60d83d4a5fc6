"""The page of the server, and what it is told of a version.

The page asks `/web/knowledge?model=NAME&version=N`, which answers
`{"classes": [NAME, …], "count": C, "figures": TEXT, "tells_unlike": BOOL, "corrects": BOOL}` with
the first classes, their number, the accuracy in words, whether an answer says that an image is
unlike all of them, and whether corrections are taken. `POST` with `label=CLASS` takes one: an
encoded image as its body, which no proxy has passed on; without a class, it takes the image out of
the corrections. It answers `{"label": CLASS}`.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from imgpipe.models.files.described_files import MANIFEST, SERVING_DEFAULT, UNLIKE, VOCABULARY
from imgpipe.serving.server.calls import Call, Calls, Place
from imgpipe.serving.server.corrections import Corrections
from imgpipe.serving.server.rest.requests import (
    Bodies,
    is_passed_on,
    json_response,
    plain_route,
)
from imgpipe.serving.server.status import Code, StatusError, invalid

if TYPE_CHECKING:  # the page of a review needs no TensorFlow
    from imgpipe.serving.server.manager import ModelManager
    from imgpipe.serving.server.predict import Spec

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # A new version of the server brings new files under the same names.
    "Cache-Control": "no-cache",
}
"""Headers of every file: nothing from other sites, no inline code, and no frame around the page."""
_SHARED = (files("imgpipe.serving") / "style.css", files(__package__) / "elements.js")
"""What all pages share."""
_NOTICE, _EXAMPLES = "<!-- notice -->", "<!-- examples -->"
"""Places of the notice and of the example images in a page."""
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}


def routes(
    package: str = __package__, notice: str = "", examples: Sequence[bytes] = ()
) -> list[Route]:
    """Return the routes of a page, which answer GET and HEAD only.

    Args:
        package: Package whose `.html`, `.css` and `.js` files are the page: `index.html` at
            `/`, and the others below `/web/`. What all pages share is added.
        notice: Sentence in the head of the page; "" for none.
        examples: JPEG files that everybody at the page can try.
    """
    shown = f'<p class="alert notice" role="note">{html.escape(notice)}</p>' if notice else ""
    result = [
        _file_route(f"/web/examples/{number}", image, "image/jpeg")
        for number, image in enumerate(examples, 1)
    ]
    buttons = "".join(
        f'<button type="button" id="example-{number}" class="example">'
        f'<img src="web/examples/{number}" alt="Example {number}"></button>'
        for number in range(1, len(examples) + 1)
    )
    by_name = {file.name: file for file in (*_SHARED, *files(package).iterdir())}
    for file in by_name.values():
        suffix = file.name[file.name.rfind(".") :]
        if suffix in _TYPES:
            path = "/" if suffix == ".html" else f"/web/{file.name}"
            content = file.read_bytes()
            if suffix == ".html":
                text = content.decode().replace(_NOTICE, shown).replace(_EXAMPLES, buttons)
                content = text.encode()
            result.append(_file_route(path, content, _TYPES[suffix]))
    return result


def _file_route(path: str, content: bytes, media_type: str) -> Route:
    return plain_route(path, partial(Response, content, headers=HEADERS, media_type=media_type))


PATH = "/web/knowledge"
SHOWN = 12
"""Classes that the page names; of more, it says their number."""


class Knowledge:
    """Answers what a version has learned."""

    def __init__(
        self, model: ModelManager, calls: Calls, bodies: Bodies, corrections: Corrections | None
    ) -> None:
        self._model = model
        self._calls = calls
        self._bodies = bodies
        self._corrections = corrections

    async def answer(self, request: Request) -> Response:
        """Answer a request to `PATH`."""
        from imgpipe.serving.server.predict import Spec  # with TensorFlow, as reviews have none

        model, version = (request.query_params.get(name, "") for name in ("model", "version"))
        call = Call("REST", "Knowledge", model=model)
        corrections = None if is_passed_on(request) else self._corrections

        async def answered(place: Place, data: bytes) -> Response:
            try:
                spec = Spec(model, int(version) if version else None)
            except ValueError as error:
                raise invalid(
                    f"A version is a whole number. Received: {version[:40]!r}."
                ) from error
            work = partial(self._describe, spec, corrections is not None)
            if request.method == "POST":
                label = request.query_params.get("label", "")
                work = partial(self._correct, spec, corrections, label, data)
            return json_response(await self._calls.answer(call, place, work, len(data)))

        return await self._bodies.answer(request, call, answered)

    def _describe(self, spec: Spec, corrects: bool) -> dict[str, object]:
        """Return the answer."""
        with self._model.acquire(spec) as handle:
            classes = _classes(handle.folder)
            figures = _figures(handle.folder)
            tells = UNLIKE in handle.signature(SERVING_DEFAULT).outputs
        return {
            "classes": classes[:SHOWN],
            "count": len(classes),
            "figures": figures,
            "tells_unlike": tells,
            "corrects": corrects,
        }

    def _correct(
        self, spec: Spec, corrections: Corrections | None, label: str, image: bytes
    ) -> dict[str, object]:
        """Return the answer to a correction."""
        if corrections is None:
            raise StatusError(
                Code.PERMISSION_DENIED,
                "This server takes no corrections. imgpipe serve --corrections takes those of the "
                "page on the same machine, and none that a proxy passes on.",
            )
        with self._model.acquire(spec) as handle:
            [name] = handle.signature(SERVING_DEFAULT).inputs
            handle.predict({name: np.array([image], object)})  # refused if it is not decoded
            corrections.keep(label, _classes(handle.folder), image)
        return {"label": label}


def _classes(folder: Path) -> list[str]:
    """Return the class names of a version of imgpipe; none of another model."""
    try:
        return (folder / VOCABULARY).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _figures(folder: Path) -> str:
    """Return the accuracy of a published version in words; "" if its manifest does not tell it."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError):
        return ""
    figures = manifest.get("figures") if isinstance(manifest, dict) else None
    return figures if isinstance(figures, str) else ""
