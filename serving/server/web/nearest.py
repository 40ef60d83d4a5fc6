"""``/web/nearest``: the training images that are nearest to an image.

``GET`` answers ``{"versions": [N]}``, the versions whose training images the server has. ``POST``
takes ``{"version": N, "features": [...]}``, where the features are those that the signature
``features`` of that version returns, and answers with the nearest training images. Pages of other
sites are refused, because training images may be private.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from imgpipe.serving.server.errors import BadArgument
from imgpipe.serving.server.requests.pool import SheddingPool
from imgpipe.serving.server.rest import body as bodies
from imgpipe.serving.server.status import invalid
from imgpipe.serving.server.web import same_site

PATH = "/web/nearest"
SHOWN = 5
_MAX_BYTES = 4 << 20
"""Largest size of the body of a request, enough for 200,000 features."""
_AT_ONCE = 16
"""Number of requests of the largest size whose bodies fit into memory at the same time."""
_FOREIGN = "Training images are only shown on the page of this server."
_LARGE = f"The request has more than {_MAX_BYTES:,} bytes."


class TrainingImages:
    """Training images of one version, with their features.

    Args:
        file: An ``.npz`` file with ``version``, ``features`` float16 [n, d] scaled to length 1,
            ``labels`` and ``paths`` [n], the small JPEG files one after the other in ``images``,
            and their ``ends`` [n].

    Raises:
        BadArgument: The file cannot be read.
    """

    def __init__(self, file: Path) -> None:
        try:
            # numpy does not close a file that it opened itself and cannot read.
            with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
                self.version = int(arrays["version"])
                self._features = arrays["features"].astype(np.float32)
                self._labels, self._paths = arrays["labels"].tolist(), arrays["paths"].tolist()
                self._images, self._ends = arrays["images"].tobytes(), arrays["ends"].tolist()
        except Exception as error:  # numpy and zipfile raise many kinds for damaged files
            raise BadArgument(
                f"--training_images_file {file} cannot be read ({error}). Expected: the file that "
                "imgpipe serve --nearest writes."
            ) from error

    def nearest(self, features: npt.NDArray[np.float32]) -> list[dict[str, Any]]:
        """Return the nearest training images, the nearest first.

        Args:
            features: [d], as the served version returns them.

        Raises:
            StatusError: There are more or fewer features, or they are not finite numbers.
        """
        width = self._features.shape[1]
        if features.shape != (width,) or not np.isfinite(features).all():
            raise invalid(
                f"Expected {width} finite features of one image. Received: shape {features.shape}."
            )
        # The stored features have length 1, so the products are cosines. The smallest norm only
        # matters for features that are all zero, which have no direction.
        cosines = self._features @ (features / max(float(np.linalg.norm(features)), 1e-12))
        order = np.argsort(-cosines, kind="stable")[:SHOWN].tolist()
        return [self._described(i, float(cosines[i])) for i in order]

    def _described(self, i: int, cosine: float) -> dict[str, Any]:
        image = self._images[self._ends[i - 1] if i else 0 : self._ends[i]]
        return {
            "label": self._labels[i],
            "path": self._paths[i],
            "similarity": round(cosine, 4),
            "image": "data:image/jpeg;base64," + base64.b64encode(image).decode("ascii"),
        }


def routes(images: TrainingImages | None, pool: SheddingPool, timeout: float) -> list[Route]:
    """Return the routes of the endpoint.

    Args:
        images: The training images; None if the server has none.
        pool: The threads of the requests.
        timeout: Seconds after which a request is refused.
    """
    budget = bodies.Budget(_AT_ONCE * _MAX_BYTES)
    late = f"The training images were not found within {timeout:g} s."

    async def describe(request: Request) -> Response:
        return JSONResponse({"versions": [] if images is None else [images.version]})

    if images is None:
        return [Route(PATH, describe)]

    async def found(request: Request) -> Response:
        body = same_site.body_of(request, _MAX_BYTES, budget, foreign=_FOREIGN, large=_LARGE)
        async with body as data:
            features = _features(data, images.version)
            nearest = await pool.run(lambda: images.nearest(features), features.nbytes)
        return JSONResponse({"nearest": nearest})

    async def find(request: Request) -> Response:
        return await same_site.answered(found(request), timeout, late)

    return [Route(PATH, describe), Route(PATH, find, methods=["POST"])]


def _features(body: bytes, version: int) -> npt.NDArray[np.float32]:
    """Read the features of a request about a version."""
    try:
        given = json.loads(body)
        asked, features = given["version"], np.array(given["features"], np.float32)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise invalid('Expected {"version": N, "features": [numbers]}.') from error
    if asked != version:
        raise invalid(f"There are training images of version {version} only.")
    return features
