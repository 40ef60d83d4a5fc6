"""A published version, as evaluations and exports see it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imgpipe.components.common.storage.manifest import MODEL_DIGEST
from imgpipe.models.errors import ConfigError, ImgpipeError, ResourceError
from imgpipe.models.files import json_object
from imgpipe.pipeline.output import places
from imgpipe.pipeline.output.past_runs import PastRun

_VOCABULARY = "assets/vocabulary.txt"


@dataclass(frozen=True)
class Model:
    """A published version.

    Attributes:
        folder: Folder of the version.
        vocabulary: Class names, in the order of the probabilities.
    """

    folder: Path
    vocabulary: tuple[str, ...]

    @classmethod
    def of(cls, folder: Path) -> Model:
        """Read the class names of a version.

        Raises:
            ConfigError: The model names no classes, so that labels cannot be compared with them.
        """
        try:
            classes = (folder / _VOCABULARY).read_text("utf-8").splitlines()
        except OSError:
            raise ConfigError(
                f"{folder} has no {_VOCABULARY}. Expected: a model that imgpipe has exported, "
                "which names its classes there."
            ) from None
        return cls(folder, tuple(classes))

    @property
    def version(self) -> int | None:
        """Number of the version, None if its folder is not named by one."""
        return int(self.folder.name) if self.folder.name.isdecimal() else None

    @property
    def image_size(self) -> int:
        """Width and height of the network's input, from the file that describes the version.

        Raises:
            ResourceError: The file does not say it.
        """
        try:
            return int(json_object.read(self.folder / MODEL_DIGEST)["image_size"])
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            raise ResourceError(
                f"{self.folder} does not say the size of its images. Expected: image_size in "
                f"{MODEL_DIGEST}, which imgpipe writes. Run the pipeline again."
            ) from None

    @property
    def run(self) -> PastRun | None:
        """The run that made the version; None if it cannot be found."""
        try:
            return places.run(self.folder)
        except ImgpipeError:
            return None

    @property
    def training_images(self) -> str | None:
        """Folder of the images of the run that made the version; None if it cannot be found."""
        uri = self.run.artifact("ImageFilter", "examples") if self.run else ""
        return uri if uri and Path(uri).is_dir() else None
