"""Corrections by a person at the page: images in a folder for each class, for the next run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from imgpipe.models.files.atomic_write import atomic_write
from imgpipe.serving.look import Look
from imgpipe.serving.server.status import invalid


@dataclass(frozen=True)
class Corrections:
    """A folder that takes images by class.

    Attributes:
        folder: Where a folder for each class is made.
        command: Command that adds the images to those of the next run; "" if it is not known.
    """

    folder: Path
    command: str

    def keep(self, label: str, classes: list[str], image: bytes) -> dict[str, object]:
        """Write an image into the folder of a class, and answer with its file and the command.

        It is taken out of the folder of another class, so that a mistake can be mended.

        Raises:
            StatusError: The model has no such class, or the file is no image.
        """
        if label not in classes:
            raise invalid(f"Expected one of the classes of the model. Received: {label[:80]!r}.")
        if label == ".." or Path(label).name != label:
            raise invalid(f"No folder can have the name of the class {label[:80]!r}.")
        look = Look(image)
        if not look.format:
            raise invalid(look.refusal())
        name = f"{hashlib.sha256(image).hexdigest()[:20]}.{look.format.lower()}"
        atomic_write(self.folder / label / name, image)
        for other in self.folder.glob(f"*/{name}"):
            if other.parent.name != label:
                other.unlink()
        return {"file": str(self.folder / label / name), "command": self.command}
