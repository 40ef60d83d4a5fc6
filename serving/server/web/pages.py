"""Routes of the web page: files of this package, with headers that forbid anything else."""

from __future__ import annotations

import html
from collections.abc import Sequence
from functools import partial
from importlib.resources import files

from starlette.responses import Response
from starlette.routing import Route

from imgpipe.serving.server.rest.requests import plain_route

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
STYLE = "style.css"
"""The style of all pages, also of the reports of runs."""
_NOTICE, _EXAMPLES = "<!-- notice -->", "<!-- examples -->"
"""Places of the notice and of the example images in a page."""
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}


def routes(
    package: str = __package__, notice: str = "", examples: Sequence[bytes] = ()
) -> list[Route]:
    """Return the routes of a page, which answer GET and HEAD only.

    Args:
        package: Package whose `.html`, `.css` and `.js` files are the page: `index.html` at
            `/`, and the others below `/web/`. The style of all pages is added.
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
    shared_style = files(__package__) / STYLE
    by_name = {file.name: file for file in (shared_style, *files(package).iterdir())}
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
