"""Opens and lists the source of images that a configuration names, and checks what a run is given.

Nothing here imports TensorFlow or TFX, since the command line calls it while they are still
loading.
"""

from __future__ import annotations

import os
from pathlib import Path

from imgpipe.components.example_gen.settings import DataSettings, SourceOptions
from imgpipe.components.example_gen.sources import (
    Scan,
    Source,
    open_source,
    split_spec,
)
from imgpipe.components.image_filter.judge import overrides
from imgpipe.models.backbones import presets
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.files.plain_paths import pattern_in
from imgpipe.pipeline.configuration.config import WEIGHT_FILES, Config


def opened(data: DataSettings, store: Path, least_classes: int = 2) -> Source:
    """Open the source of images.

    Args:
        data: The section of the configuration that names the source.
        store: Folder of the inspection cache, in which compressed files are unpacked.
        least_classes: Number of classes that there have to be.

    Returns:
        The source, of which nothing has been listed yet.

    Raises:
        ConfigError: No source is named, or it cannot be read as one.
    """
    if not data.source:
        raise ConfigError(
            "no images: name a folder with one sub-folder for each class, or another source "
            "of images, with imgpipe run DATA or data.source."
        )
    return open_source(data.source, SourceOptions.of(data, str(store), least_classes))


def require_usable(config: Config) -> None:
    """Check the files, folders and classes of a run before anything is loaded or written.

    Args:
        config: The configuration, with absolute paths.

    Raises:
        ConfigError: The source, a class, an output folder or the overrides are refused.
        ResourceError: The weights are missing.
    """
    require_outside(config)
    require_classes(config)
    check_files(config)


def require_classes(config: Config) -> None:
    """List the images without reading them, and refuse classes that no model can have.

    Raises:
        ConfigError: The source cannot be read, or a class or the number of classes is refused.
    """
    listing = opened(config.data, config.places.judge).listing()
    config.settings.check_classes(listing.vocabulary)


def outputs(config: Config) -> dict[str, Path]:
    """Return the folders to which a run writes, by the setting that names each of them."""
    return {
        "run.out": config.places.out,
        "push.directory": config.places.versions,
        "bank.store": config.places.bank,
        "judge.store": config.places.judge,
    }


def check_files(config: Config) -> None:
    """Check the files that the configuration names.

    Raises:
        ConfigError: The overrides are missing or malformed, or a preset does not fit.
        ResourceError: The weights or the preset are missing or damaged.
    """
    if config.places.overrides is not None:
        overrides.load(config.places.overrides)
    weights = config.settings.weights
    if weights.endswith(WEIGHT_FILES) and not Path(weights).is_file():
        raise ResourceError(f"model.weights: there is no file {weights}.")
    if config.model.backbone.startswith(presets.PREFIX):
        preset = presets.preset(config.settings.backbone)
        preset.require_known()
        if preset.folder is not None:
            preset.check_size(config.settings.size)


def require_outside(config: Config) -> None:
    """Refuse outputs in the folder of the images, which the next run would take for a class.

    Args:
        config: The configuration, with absolute paths.

    Raises:
        ConfigError: A folder of outputs lies in the folder of the images, or is this folder, or its
            path has a character that Beam and TensorFlow take for a pattern.
    """
    for name, path in outputs(config).items():
        if why := pattern_in(path):
            raise ConfigError(f"{name}: {why}")
    _, place = split_spec(config.data.source, SourceOptions.of(config.data))
    images = os.path.realpath(place)
    if not config.data.source or not os.path.isdir(images):  # noqa: PTH112  # `Path.is_dir` may raise
        return
    for name, path in outputs(config).items():
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


def scan(config: Config) -> Scan:
    """List the images with their hashes and labels.

    Raises:
        ConfigError: The source cannot be read, or a class or the number of classes is refused.
    """
    listed = opened(config.data, config.places.judge).scan()
    config.settings.check_classes(listed.vocabulary)
    return listed
