"""What a version has learned: its classes, and whether an image is unlike all of its images.

The page asks `/web/knowledge?model=NAME&version=N`: `GET` answers
`{"classes": [NAME, …], "count": C, "tells_unlike": BOOL}` with the first classes, their number, and
whether the version can tell of an image that it is unlike. `POST` takes an encoded image as its
body, and answers `{"unlike": BOOL}`.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from imgpipe.models.files.version_files import FEATURE_VECTORS, VOCABULARY
from imgpipe.serving.server.calls import Call, Calls
from imgpipe.serving.server.core import Core
from imgpipe.serving.server.predict import Handle, Spec
from imgpipe.serving.server.rest.requests import Bodies, check_site, json_response
from imgpipe.serving.server.settings import Distribution, ReadDistribution
from imgpipe.serving.server.status import invalid

PATH = "/web/knowledge"
SHOWN = 12
"""Classes that the page names; of more, it says their number."""
_KEPT = 8
"""Distributions of versions that stay in memory, each of about half a megabyte."""


class Knowledge:
    """Answers what a version has learned.

    Args:
        core: The served models.
        read: Reads the distribution of a version's training images; None if nothing does.
    """

    def __init__(self, core: Core, read: ReadDistribution | None) -> None:
        self._core = core
        self._read = None if read is None else functools.lru_cache(_KEPT)(read)

    def describe(self, spec: Spec) -> dict[str, object]:
        """Return the first classes, their number, and whether `is_unlike` can tell anything."""
        with self._core.acquire(spec) as handle:
            classes = _classes(handle.folder)
            tells = self._distribution(handle) is not None
        return {"classes": classes[:SHOWN], "count": len(classes), "tells_unlike": tells}

    def is_unlike(self, spec: Spec, data: bytes) -> bool:
        """Return whether an image is unlike all images from which the version has learned.

        The measure is that of `imgpipe drift`: of held-out images of the training data, one in a
        hundred is as far from the training images (`FeatureDistribution.threshold`).
        `FeatureDistribution.far`, the limit for single images in a log of thousands, would let
        plain photographs of other things pass, because few held-out images set it far away.

        Args:
            spec: The version.
            data: The encoded image.

        Raises:
            StatusError: The version is not available, or cannot decode the image.
        """
        with self._core.acquire(spec) as handle:
            distribution = self._distribution(handle)
            if distribution is None:
                return False
            (name,) = handle.signatures[FEATURE_VECTORS].inputs
            image = {name: np.array([data], dtype=object)}
            (features,) = handle.predict(image, FEATURE_VECTORS).outputs.values()
        return bool(distribution.is_unlike(features)[0])

    def _distribution(self, handle: Handle) -> Distribution | None:
        if self._read is None or FEATURE_VECTORS not in handle.signatures:
            return None
        return self._read(str(handle.folder))


def _classes(folder: Path) -> list[str]:
    """Return the class names of a version of imgpipe; none of another model."""
    try:
        return (folder / VOCABULARY).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def route(knowledge: Knowledge, calls: Calls, bodies: Bodies) -> Route:
    """Return the route of the endpoint.

    Args:
        knowledge: What answers.
        calls: Runs the requests.
        bodies: Reads the bodies of requests.
    """

    async def answer(request: Request) -> Response:
        async def answered(data: bytes) -> Response:
            spec = asked_version(request)

            def work() -> dict[str, object]:
                if request.method == "POST":
                    return {"unlike": knowledge.is_unlike(spec, data)}
                return knowledge.describe(spec)

            call = Call("REST", "Knowledge", model=spec.name)
            return json_response(await calls.answer(call, work, len(data)))

        return await bodies.answer(request, answered, lambda: check_site(request))

    return Route(PATH, answer, methods=["GET", "POST"])


def asked_version(request: Request) -> Spec:
    """Return the version that the query of a request names, the newest where it has no number.

    Raises:
        StatusError: The query names no model, or the version is not a number.
    """
    model, version = (request.query_params.get(name, "") for name in ("model", "version"))
    try:
        return Spec(model, int(version) if version else None)
    except ValueError as error:
        raise invalid(f"A version is a whole number. Received: {version[:40]!r}.") from error
