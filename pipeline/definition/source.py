"""Opens the source of images that a configuration names, and checks what a run is given.

Nothing here imports TensorFlow or TFX, since the command line calls it while they are still
loading.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from imgpipe.components.example_gen.sources import (
    Scan,
    Source,
    open_source,
    request_log,
    split_spec,
)
from imgpipe.components.image_filter.judge import overrides
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.files.regular_files import pattern_in
from imgpipe.models.machine import progress
from imgpipe.models.settings.data import DataSettings
from imgpipe.models.settings.settings import Places, Settings
from imgpipe.pipeline.configuration.config import WEIGHT_FILES


def usable(settings: Settings) -> ListedSource:
    """Check what a run reads before anything is loaded or written, and list its images.

    Args:
        settings: The settings, with absolute paths.

    Raises:
        ConfigError: The source, a class, an output folder or the overrides are refused.
        ResourceError: The weights are missing.
    """
    places = settings.places
    require_labels(settings.data)
    require_outside(settings.data, places)
    images = opened_with_classes(settings, str(places.judge))
    if places.overrides is not None:
        overrides.load(places.overrides)
    _check_network_files(settings)
    return images


def require_labels(data: DataSettings) -> None:
    """Refuse a request log, whose labels are the answers of a model.

    Raises:
        ConfigError: The source is a request log.
    """
    if data.source.lower().startswith(f"{request_log.KIND}:"):
        raise ConfigError(
            f"data source {data.source!r}: nobody has confirmed the labels, which are the answers "
            "of a model. Only `imgpipe check` and `imgpipe drift` read a request log; to train on "
            "its images or to evaluate a model with them, label them and name the folder"
        )


@dataclass(frozen=True)
class ListedSource:
    """A source of images, its listing, and the folder of the inspection cache, "" for none."""

    source: Source
    scan: Scan
    store: str

    def hashed(self) -> Scan:
        """Return the listing with the hashes of the contents; see `Source.scan`."""
        return self.source.scan(self.scan)


def opened_with_classes(settings: Settings, store: str) -> ListedSource:
    """Open the source, list its images without reading them, and refuse classes that no model has.

    `store` is the folder of the inspection cache; "" for none.

    Raises:
        ConfigError: The source cannot be read, or a class or the number of classes is refused.
    """
    images = open_source(settings.data.source, settings.data, store)
    scan = images.listing()
    settings.check_classes(scan.vocabulary)
    return ListedSource(images, scan, store)


def hashed(images: ListedSource) -> Future[Scan]:
    """Hash images in a thread, while libraries are loaded."""
    scan: Future[Scan] = Future()

    def work() -> None:
        try:
            with progress.silent():
                scan.set_result(images.hashed())
        except BaseException as error:  # Python would only print it; `result` raises it
            scan.set_exception(error)

    # A daemon, so that an interrupted run does not wait until all images are hashed.
    threading.Thread(target=work, name="scan", daemon=True).start()
    return scan


def _check_network_files(settings: Settings) -> None:
    """Check the file of weights that the settings of a network name."""
    weights = settings.model.weights
    if weights.endswith(WEIGHT_FILES) and not Path(weights).is_file():
        raise ResourceError(f"model.weights: there is no file {weights}.")


def require_outside(data: DataSettings, places: Places) -> None:
    """Refuse outputs in the folder of the images, which the next run would take for a class.

    A path with a character that Beam and TensorFlow take for a pattern is refused, too. The error
    is a ConfigError.
    """
    _, place = split_spec(data.source, data)
    for name, path in places.outputs.items():
        if why := pattern_in(path):
            raise ConfigError(f"{name}: {why}")
    images = os.path.realpath(place)
    if not data.source or not os.path.isdir(images):  # noqa: PTH112  # `Path.is_dir` may raise
        return
    for name, path in places.outputs.items():
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
