"""Bodies of requests that are no JSON, as people send them first, and what to send instead."""

from __future__ import annotations

import re
import shlex

from imgpipe.serving.look import Look
from imgpipe.serving.server.status import invalid

B64 = "b64"
B64_FORM = '{"b64": TEXT}'
B64_ADVICE = (
    f"Send the content of the file as base64, in an object with the single key {B64}: no path, no "
    "link and no data URL."
)
IMAGE_FORM = f'{{"instances": [{B64_FORM}]}}'
_COMMAND = (
    "python3 -c 'import base64, json, sys; image = base64.b64encode(sys.stdin.buffer.read()); "
    "print(json.dumps(dict(instances=[dict(b64=image.decode())])))' < photo.jpg | "
    "curl --data-binary @- "
)
"""What a person copies out of an answer, in which JSON puts a backslash before quotation marks and
backslashes. Therefore it has neither."""
_FORM = re.compile(rb"[\w.%+-]+=")
"""The beginning of a form that is not divided into parts."""
_START = 256
"""Bytes of a body that show what it is."""


def check(data: bytes, url: str) -> None:
    """Check that a body may be JSON, by its first byte.

    Args:
        data: The body.
        url: Address of the request, for the command in the message.

    Raises:
        StatusError: INVALID_ARGUMENT, it is something else.
    """
    if data[:_START].lstrip()[:1] not in (b"{", b"["):
        raise invalid(
            f"The body is {_kind(data)}, and no JSON. Send the content of an image as base64, "
            f"{IMAGE_FORM}. A command that does: {_COMMAND}{shlex.quote(url)}"
        )


def _kind(data: bytes) -> str:
    if not data.strip():
        return "empty"
    start = data[:_START]
    if start.startswith(b"--") and b"content-disposition" in start.lower():
        return "a form (multipart/form-data)"
    if _FORM.match(start):
        return "a form"
    look = Look(data)
    name = look.format_in_words or look.other_format
    return f"a file of the format {name}" if name else look.described()[0]
