"""A folder of images whose labels people have corrected, which the next run can take as data.

The page asks `/web/corrections`: `GET` answers `{"collects": true}` where the server collects
images. `POST` takes an encoded image as its body, with the query
`?model=NAME&version=N&label=CLASS`, and answers with the path of the image in the folder. Pages
of other sites are refused, because a browser would send their requests too.
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
from pathlib import Path

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from imgpipe.models.errors import ConfigError
from imgpipe.models.files.atomic_write import writing
from imgpipe.models.files.version_files import SERVING_DEFAULT
from imgpipe.serving.image_header import sniff
from imgpipe.serving.server.calls import SheddingPool
from imgpipe.serving.server.core import Core
from imgpipe.serving.server.predict import Spec
from imgpipe.serving.server.rest.requests import Bodies, json_response
from imgpipe.serving.server.status import Code, StatusError, invalid
from imgpipe.serving.server.web.knowledge import asked_version, check_site

PATH = "/web/corrections"
MAX_IMAGES, MAX_BYTES = 10_000, 2 << 30
"""Largest number of images in the folder, and their largest size together."""
_MAX_NAME_BYTES = 255
"""Largest number of bytes of a file name in the usual file systems of Linux and macOS."""
_SUFFIXES = {"PNG": ".png", "GIF": ".gif", "BMP": ".bmp", "WEBP": ".webp", "JXL": ".jxl"}
"""Endings of file names by format; that of all other files is `.jpg`."""


class Collection:
    """The folder: `<class>/<sha256 of the image>.<format>`, readable by its owner only.

    Only images that the model decodes are kept, and only under names of its classes. An image is
    kept once: a later correction of the same image replaces the one before it.

    Args:
        folder: The folder, which is created if it does not exist.
        core: The served models.

    Raises:
        ConfigError: Images cannot be written to the folder.
    """

    def __init__(self, folder: Path, core: Core) -> None:
        self._folder, self._core = folder, core
        self._writing = threading.Lock()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise ConfigError(f"no images can be kept in {folder}: {error.strerror}.") from error

    def keep(self, spec: Spec, label: str, data: bytes) -> str:
        """Keep an image and return its path in the folder.

        Args:
            spec: The version that classified the image.
            label: The class that a person chose for it.
            data: The encoded image.

        Raises:
            StatusError: The model cannot decode the image or has no such class, a limit is
                reached, or the file cannot be written.
        """
        classes = self._classes(spec, data)
        if label not in classes:
            raise invalid(f"{label[:80]!r} is not a class of the model.")
        if not _is_folder_name(label):
            raise invalid(f"The class {label[:80]!r} cannot be the name of a folder.")
        name = hashlib.sha256(data).hexdigest() + _SUFFIXES.get(sniff(data), ".jpg")
        file = self._folder / label / name
        with self._writing:
            others = [other for other in self._folder.glob(f"*/{name}") if other != file]
            try:
                self._check_room(len(data))
                # The new file comes first: after an interruption an image has two labels, not none.
                file.parent.mkdir(mode=0o700, exist_ok=True)
                with writing(file) as beside:
                    beside.touch(mode=0o600)
                    beside.write_bytes(data)
                for other in others:
                    other.unlink(missing_ok=True)
            except OSError as error:
                raise StatusError(
                    Code.INTERNAL, f"The image could not be written: {error.strerror}."
                ) from error
        return f"{label}/{name}"

    def _classes(self, spec: Spec, data: bytes) -> list[str]:
        """Return the classes of the version, which must decode the image to name them."""
        with self._core.acquire(spec) as handle:
            signature = handle.signatures.get(SERVING_DEFAULT)
            names = list(signature.inputs) if signature is not None else []
            if signature is None or len(names) != 1 or "classes" not in signature.outputs:
                raise invalid(f"Model {handle.name} is not a classifier of encoded images.")
            answer = handle.predict({names[0]: np.array([data], dtype=object)})
        return [bytes(name).decode("utf-8", "replace") for name in answer.outputs["classes"][0]]

    def _check_room(self, size: int) -> None:
        sizes = [file.stat().st_size for file in self._folder.glob("*/*") if file.is_file()]
        if len(sizes) >= MAX_IMAGES or sum(sizes) + size > MAX_BYTES:
            raise StatusError(
                Code.RESOURCE_EXHAUSTED,
                f"The folder of collected images is full: {len(sizes):,} images, {sum(sizes):,} "
                "bytes. Move them to the data of the next run.",
            )


def _is_folder_name(name: str) -> bool:
    """Return whether a class is one plain, visible name in every file system."""
    size = len(name.encode("utf-8", "replace"))
    # Windows allows none of these characters.
    plain = name.isprintable() and not set(name) & set('/\\:*?"<>|')
    return plain and 0 < size <= _MAX_NAME_BYTES and not name.startswith(".")


def routes(folder: str, core: Core, pool: SheddingPool, bodies: Bodies) -> list[Route]:
    """Return the routes of the endpoint; without a folder, the server collects nothing.

    Raises:
        ConfigError: Images cannot be written to the folder.
    """

    async def describe(request: Request) -> Response:
        return json_response({"collects": bool(folder)})

    if not folder:
        return [Route(PATH, describe)]
    keep = Collection(Path(folder).absolute(), core).keep

    async def take(request: Request) -> Response:
        async def kept(data: bytes) -> Response:
            spec, label = version_and_label(request)
            path = await pool.run(lambda: keep(spec, label, data), len(data))
            return json_response({"path": path})

        return await bodies.answer(request, kept, lambda: check_site(request))

    return [Route(PATH, describe), Route(PATH, take, methods=["POST"])]


def version_and_label(request: Request) -> tuple[Spec, str]:
    """Return the version and the class of a request.

    Raises:
        StatusError: The query names no model or no label, or the version is not a number.
    """
    label = request.query_params.get("label", "")
    if not request.query_params.get("model") or not label:
        raise invalid("A correction names a model and a label: ?model=NAME&version=N&label=CLASS.")
    return asked_version(request), label
