"""What a version has learned: its classes, and whether an image is unlike all of its images.

The page asks `/web/knowledge?model=NAME&version=N`: `GET` answers
`{"classes": [NAME, …], "count": C, "tells_unlike": BOOL}` with the first classes, their number, and
whether the version can tell of an image that it is unlike. `POST` takes an encoded image as its
body, and answers `{"unlike": BOOL}`.
"""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from imgpipe.models.files.version_files import FEATURE_VECTORS, VOCABULARY
from imgpipe.serving.server.calls import SheddingPool
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
        self._core, self._read = core, read
        self._read_before: dict[Path, Distribution | None] = {}
        self._reading = threading.Lock()

    def describe(self, spec: Spec) -> dict[str, object]:
        """Return the first classes, their number, and whether `is_unlike` can tell anything."""
        with self._core.acquire(spec) as handle:
            classes = _classes(handle.folder)
            tells = self._distribution(handle) is not None
        return {"classes": classes[:SHOWN], "count": len(classes), "tells_unlike": tells}

    def is_unlike(self, spec: Spec, data: bytes) -> bool:
        """Return whether an image is unlike all images from which the version has learned.

        The measure is that of `imgpipe drift`: of held-out images of the training data, one in a
        thousand is as far from the training images (`FeatureDistribution.far`).

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
        return bool(distribution.scores(features)[0] > distribution.far)

    def _distribution(self, handle: Handle) -> Distribution | None:
        if self._read is None or FEATURE_VECTORS not in handle.signatures:
            return None
        with self._reading:
            if handle.folder not in self._read_before:
                while len(self._read_before) >= _KEPT:
                    del self._read_before[next(iter(self._read_before))]
                self._read_before[handle.folder] = self._read(str(handle.folder))
            return self._read_before[handle.folder]


def _classes(folder: Path) -> list[str]:
    """Return the class names of a version of imgpipe; none of another model."""
    try:
        return (folder / VOCABULARY).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def routes(
    read: ReadDistribution | None, core: Core, pool: SheddingPool, bodies: Bodies
) -> list[Route]:
    """Return the routes of the endpoint.

    Args:
        read: Reads the distribution of a version's training images; None if nothing does.
        core: The served models.
        pool: The threads that compute.
        bodies: Reads the bodies of requests.
    """
    knowledge = Knowledge(core, read)

    async def describe(request: Request) -> Response:
        async def described(_: bytes) -> Response:
            spec = asked_version(request)
            return json_response(await pool.run(lambda: knowledge.describe(spec)))

        return await bodies.answer(request, described)

    async def judge(request: Request) -> Response:
        async def judged(data: bytes) -> Response:
            spec = asked_version(request)
            unlike = await pool.run(lambda: knowledge.is_unlike(spec, data), len(data))
            return json_response({"unlike": unlike})

        return await bodies.answer(request, judged, lambda: check_site(request))

    return [Route(PATH, describe), Route(PATH, judge, methods=["POST"])]


def asked_version(request: Request) -> Spec:
    """Return the version that the query of a request names, the newest where it has no number.

    Raises:
        StatusError: The query names no model, or the version is not a number.
    """
    query = request.query_params
    version = query.get("version", "")
    if not query.get("model"):
        raise invalid("The address names a model: ?model=NAME&version=N.")
    # A number of 18 digits always fits an int64.
    if version and not (version.isdecimal() and len(version) < 19):
        raise invalid(f"A version is a whole number. Received: {version[:40]!r}.")
    return Spec(query["model"], int(version) if version else None)
