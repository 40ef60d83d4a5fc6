"""Corrections by a person at the page: images in a folder for each class, for the next run."""

from __future__ import annotations

import hashlib
import logging
import threading
from dataclasses import dataclass, field
from pathlib import Path

from imgpipe.models.files.atomic_write import atomic_write
from imgpipe.serving.look import Look
from imgpipe.serving.server.status import Code, StatusError, invalid

MOST_BYTES = 100_000_000
"""Largest size of all corrections together: some 30 photographs of a phone, or 1,000 of the web."""
_BLOCK_BYTES = 4096
"""What the smallest file takes of a disk."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Corrections:
    """Takes images by class into a folder, until they have `MOST_BYTES`."""

    folder: Path
    """Where a folder for each class is made. No answer names it."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def keep(self, label: str, classes: list[str], image: bytes) -> None:
        """Write an image into the folder of a class, and take it out of that of another one.

        Args:
            label: Name of the class; "" only takes the image out.
            classes: The classes of the model.
            image: An encoded image that the model decodes.

        Raises:
            StatusError: The model has no such class, the file is no image, or has no room.
        """
        if label and label not in classes:
            raise invalid(f"Expected one of the classes of the model. Received: {label[:80]!r}.")
        if label == ".." or Path(label).name != label:
            raise invalid(f"No folder can have the name of the class {label[:80]!r}.")
        look = Look(image)
        if not look.format:
            raise invalid(look.refusal())
        name = f"{hashlib.sha256(image).hexdigest()[:20]}.{look.format.lower()}"
        try:
            with self._lock:
                self._place(label, name, image)
        except OSError as error:  # whose text would tell a path of this machine
            _log.error("a correction is not kept: %s", error)
            raise StatusError(
                Code.UNAVAILABLE, f"The image cannot be kept: {error.strerror}."
            ) from None

    def _place(self, label: str, name: str, image: bytes) -> None:
        before = [*self.folder.glob(f"*/{name}")]
        if label and not before:
            sizes = (file.stat().st_size for file in self.folder.glob("*/*"))
            if sum(max(size, _BLOCK_BYTES) for size in (*sizes, len(image))) > MOST_BYTES:
                raise StatusError(
                    Code.RESOURCE_EXHAUSTED,
                    f"The corrections have {MOST_BYTES // 10**6} MB, and no more are kept. Add "
                    "them to your images, and delete their folder.",
                )
        if label:
            atomic_write(self.folder / label / name, image)
        for file in before:
            if file.parent.name != label:
                file.unlink()
