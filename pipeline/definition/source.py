"""Lists the images that the settings of a run name, and checks what a run is given.

Nothing here imports TensorFlow or TFX, since the command line calls it while they are still
loading.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future
from pathlib import Path

from imgpipe.components.example_gen.sources import Images, place_of, read_source
from imgpipe.components.image_filter.judge import overrides
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.files.regular_files import pattern_in
from imgpipe.models.machine import progress
from imgpipe.models.settings.settings import Settings
from imgpipe.pipeline.configuration.config import WEIGHT_FILES


def usable(settings: Settings) -> Images:
    """Check what a run reads before anything is loaded or written, and list its images.

    Args:
        settings: The settings, with absolute paths.

    Raises:
        ConfigError: The source, a class, an output folder or the overrides are refused.
        ResourceError: The weights are missing.
    """
    places = settings.places
    require_outside(settings)
    images = listed(settings, str(places.judge))
    if places.overrides is not None:
        overrides.load(places.overrides)
    weights = settings.model.weights
    if weights.endswith(WEIGHT_FILES) and not Path(weights).is_file():
        raise ResourceError(f"model.weights: there is no file {weights}.")
    return images


def listed(settings: Settings, store: str) -> Images:
    """List the images without reading them, and refuse classes that no model has.

    Args:
        settings: The settings.
        store: Folder of the inspection cache; "" for none.

    Raises:
        ConfigError: The source cannot be read, or a class or the number of classes is refused.
    """
    images = read_source(settings.data.source, settings.data, store)
    settings.check_classes(images.classes)
    return images


def hashed_in_thread(images: Images) -> Future[Images]:
    """Hash images in a thread, while libraries are loaded."""
    hashed: Future[Images] = Future()

    def work() -> None:
        try:
            with progress.silent():
                hashed.set_result(images.hashed())
        except BaseException as error:  # Python would only print it; `result` raises it
            hashed.set_exception(error)

    # A daemon, so that an interrupted run does not wait until all images are hashed.
    threading.Thread(target=work, name="scan", daemon=True).start()
    return hashed


def require_outside(settings: Settings) -> None:
    """Refuse outputs in the folder of the images, which the next run would take for a class.

    Raises:
        ConfigError: An output lies there, or its path has a character that Beam and TensorFlow take
            for a pattern.
    """
    outputs = settings.places.outputs
    for name, path in outputs.items():
        if why := pattern_in(path):
            raise ConfigError(f"{name}: {why}")
    place = place_of(settings.data.source)
    images = os.path.realpath(place) if place is not None else ""
    if not os.path.isdir(images):  # noqa: PTH112  # `Path.is_dir` may raise
        return
    for name, path in outputs.items():
        folder = Path(os.path.realpath(path))
        if Path(images) in (folder, *folder.parents):
            raise ConfigError(among_images(name, path, images))


def among_images(name: str, path: Path, images: str) -> str:
    """Say that the folder of outputs that a setting names lies in the folder of the images."""
    named = "--out OUT or --set run.out=FOLDER" if name == "run.out" else f"--set {name}=FOLDER"
    return (
        f"{name}: {path} lies in the folder of the images, {images}, where its files would be "
        f"taken for images. Name a folder outside of it: {named}"
    )
