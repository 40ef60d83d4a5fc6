"""A folder tree on this machine as a source; `layout` says which folders are splits and classes."""

from __future__ import annotations

import os
from pathlib import Path

from imgpipe.components.common.image_file import file_names
from imgpipe.components.example_gen.sources.images import FileReader, Item, Listing
from imgpipe.components.example_gen.sources.layout import (
    EXPECTED_TREE,
    SECOND_FOLDER,
    lay_out,
)
from imgpipe.components.example_gen.sources.tree import Tree
from imgpipe.components.example_gen.sources.walk import Walk, divided, not_passed_over
from imgpipe.models.errors import ConfigError, nearest
from imgpipe.models.files.regular_files import open_regular
from imgpipe.models.settings.data import DataSettings


def list_folder(spec: str, options: DataSettings, least_classes: int) -> Listing:
    """List the images of a folder on a local or mounted file system.

    Raises:
        ConfigError: It is no folder that can be read, or is not laid out as expected.
    """
    root = Path(spec).expanduser().absolute()
    if not root.is_dir():
        beside = root.parent.iterdir() if root.parent.is_dir() else ()
        near = nearest(root.name, [path.name for path in beside if path.is_dir()])
        raise ConfigError(f"data source {spec!r} does not exist{near}; {EXPECTED_TREE}")
    if not os.access(root, os.R_OK | os.X_OK):
        raise ConfigError(f"data source {spec!r} cannot be read by this user; {EXPECTED_TREE}")
    listing = Listing(
        spec, FileReader(str(root), options.follow_links), EXPECTED_TREE, SECOND_FOLDER
    )
    add_folder(listing, root, options, least_classes, root)
    return listing


def add_folder(
    listing: Listing,
    root: Path,
    options: DataSettings,
    least_classes: int,
    place: Path | None,
) -> None:
    """Add the images below a folder to a listing.

    Args:
        listing: Gets items, classes and notes.
        root: The folder.
        options: Settings of the source.
        least_classes: Number of classes that the source needs.
        place: The folder as a person may name it; None for that of an archive.

    Raises:
        ConfigError: The folder is not laid out as expected, or can be read in two ways.
    """
    walk = Walk(str(root), options.follow_links, listing.notes)
    walk.collect()

    def head(path: str, length: int) -> bytes:
        try:
            with open_regular(root / path) as file:
                return file.read(length)
        except OSError:
            return b""

    def begins_as_image(path: str) -> bool:
        return file_names.begins_as_image(head(path, file_names.HEAD))

    paths = not_passed_over(walk.files, options.skip, listing.notes)
    images, others = divided(paths, begins_as_image)
    tree = Tree([Item(path) for path in images], others, walk.empty(), head, place)
    lay_out(listing, tree, options, least_classes)
