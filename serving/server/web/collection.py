"""A folder of images whose labels people have corrected, which the next run can take as data."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imgpipe.models.errors import ConfigError
from imgpipe.serving.image_header import sniff
from imgpipe.serving.server.core import Core
from imgpipe.serving.server.requests.predict import Spec
from imgpipe.serving.server.signature_names import DEFAULT_SIGNATURE
from imgpipe.serving.server.status import Code, StatusError, invalid

MAX_IMAGE_BYTES = 20 << 20
MAX_IMAGES, MAX_BYTES = 10_000, 2 << 30
"""Largest number of images in the folder, and their largest size together."""
_MAX_NAME_BYTES = 255
"""Largest number of bytes of a file name in the usual file systems of Linux and macOS."""
_SUFFIXES = {"PNG": ".png", "GIF": ".gif", "BMP": ".bmp", "WEBP": ".webp", "JXL": ".jxl"}
"""Endings of file names by format; that of all other files is ``.jpg``."""


@dataclass(frozen=True)
class Correction:
    """An image and the class that a person chose for it."""

    spec: Spec
    """The version that classified the image."""
    label: str
    data: bytes


class Collection:
    """The folder: ``<class>/<sha256 of the image>.<format>``, readable by its owner only.

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
            raise ConfigError(
                f"Images cannot be collected in {folder}: {error.strerror}. Expected: a folder "
                "that this user can write to."
            ) from error

    def keep(self, correction: Correction) -> str:
        """Keep an image and return its path in the folder.

        Args:
            correction: The image and its class.

        Raises:
            StatusError: The model cannot decode the image or has no such class, a limit is
                reached, or the file cannot be written.
        """
        data, label = correction.data, correction.label
        classes = self._classes(correction)
        if label not in classes:
            raise invalid(
                f"{label[:80]!r} is not a class of the model. Expected one of: "
                f"{', '.join(classes[:10])}{', …' if len(classes) > 10 else ''}."
            )
        if not _is_folder_name(label):
            raise invalid(f"The class {label[:80]!r} cannot be the name of a folder.")
        name = hashlib.sha256(data).hexdigest() + _SUFFIXES.get(sniff(data), ".jpg")
        with self._writing:
            others = [file for file in self._folder.glob(f"*/{name}") if file.parent.name != label]
            try:
                self._check_room(len(data))
                # The new file comes first: after an interruption an image has two labels, not none.
                _write(self._folder / label / name, data)
                for file in others:
                    file.unlink(missing_ok=True)
            except OSError as error:
                raise StatusError(
                    Code.INTERNAL, f"The image could not be written: {error.strerror}."
                ) from error
        return f"{label}/{name}"

    def _classes(self, correction: Correction) -> list[str]:
        """Return the classes of the version, which must decode the image to name them."""
        with self._core.acquire(correction.spec) as handle:
            signature = handle.signatures.get(DEFAULT_SIGNATURE)
            names = list(signature.inputs) if signature is not None else []
            if signature is None or len(names) != 1 or "classes" not in signature.outputs:
                raise invalid(f"Model {handle.name} is not a classifier of encoded images.")
            image = np.array([correction.data], dtype=object)
            answer = handle.predict({names[0]: image})
        return [bytes(name).decode("utf-8", "replace") for name in answer.outputs["classes"][0]]

    def _check_room(self, size: int) -> None:
        sizes = [file.stat().st_size for file in self._folder.glob("*/*") if file.is_file()]
        if len(sizes) >= MAX_IMAGES or sum(sizes) + size > MAX_BYTES:
            raise StatusError(
                Code.RESOURCE_EXHAUSTED,
                f"The folder of collected images is full: it holds {len(sizes):,} images with "
                f"{sum(sizes):,} bytes. Expected: at most {MAX_IMAGES:,} images and "
                f"{MAX_BYTES:,} bytes. Move them to the data of the next run.",
            )


def _is_folder_name(name: str) -> bool:
    """Return whether a class is one plain, visible name in every file system."""
    size = len(name.encode("utf-8", "replace"))
    # These characters are not allowed in names of files on Windows.
    plain = name.isprintable() and not set(name) & set('/\\:*?"<>|')
    return plain and 0 < size <= _MAX_NAME_BYTES and not name.startswith(".")


def _write(file: Path, data: bytes) -> None:
    """Write a file that a reader sees whole or not at all; only its owner may read it."""
    file.parent.mkdir(mode=0o700, exist_ok=True)
    descriptor, beside = tempfile.mkstemp(prefix=".tmp-", dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(beside).replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(beside).unlink()
        raise
    # The new name is only safe from a power failure once the folder itself is on the disk.
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
