"""Sources of images: `read_source` lists the images that a spec names, whatever the source is."""

from __future__ import annotations

import re
from pathlib import Path

from imgpipe.components.example_gen.sources import (
    archive,
    folder,
    lists,
    object_store,
    pixels,
    records,
    rules,
    tfds,
)
from imgpipe.components.example_gen.sources.images import Images, Item, Listing, Reader
from imgpipe.components.example_gen.sources.layout import EXPECTED_TREE
from imgpipe.models.errors import ConfigError
from imgpipe.models.files import regular_files
from imgpipe.models.settings.data import DataSettings
from imgpipe.serving.look import Look

__all__ = ["Images", "Item", "Reader", "absolute_spec", "place_of", "read_source"]

_MAX_LENGTH = 4096  # characters of a path on Linux
_HEAD = 1 << 20  # bytes of a file that are looked at to say what it is
_ADDRESS = re.compile(r"[a-z0-9+-]+://", re.IGNORECASE)


def read_source(
    spec: str, options: DataSettings | None = None, store: str = "", least_classes: int = 2
) -> Images:
    """List the images of a source without reading them; `Images.hashed` hashes their contents.

    Args:
        spec: A path, `tfds:NAME[:SPLIT]`, `gs://BUCKET/PREFIX` or `s3://BUCKET/PREFIX`. What a path
            is, its ending and its content say.
        options: How the source is read. Default: `DataSettings()`.
        store: Folder of the inspection cache, in which archives are unpacked; "" for a temporary
            folder.
        least_classes: Number of classes with fewer of which the source is refused; one is enough
            for an evaluation.

    Raises:
        ConfigError: There is no such source, or it is not laid out as expected.
        ResourceError: A package, the network, or space is missing.
    """
    if not spec.strip():
        raise ConfigError(
            "no data source given; expected a folder with one sub-folder for each class, or "
            "another source of images (DATA, or data.source in the configuration)"
        )
    options = options or DataSettings()
    try:
        listing = _listing(spec, options, store, least_classes)
    except OSError as error:
        raise ConfigError(
            f"data source {spec!r} cannot be opened: {error.strerror or error}; expected a path "
            "that this user may read"
        ) from None
    return rules.checked(listing, options, least_classes)


def _listing(spec: str, options: DataSettings, store: str, least_classes: int) -> Listing:
    """List a source of the kind that its spec names."""
    if spec.startswith(tfds.PREFIX):
        return tfds.list_tfds(spec.removeprefix(tfds.PREFIX), options)
    if spec.startswith(object_store.SCHEMES):
        return object_store.list_objects(spec, options, least_classes)
    if _ADDRESS.match(spec):
        raise ConfigError(
            f"data source {spec!r} is no address that is read; expected a path, tfds:NAME, "
            f"{' or '.join(object_store.SCHEMES)}"
        )
    place = Path(spec).expanduser().absolute()
    name = place.name.lower()
    if files := records.files_of(place):
        return records.list_records(spec, files, options)
    if place.is_dir():
        if pixels.tables_in(place):
            return pixels.list_pixels(spec, options)
        return folder.list_folder(spec, options, least_classes)
    if name.endswith(archive.ENDINGS):
        return archive.list_archive(spec, options, store, least_classes)
    if name.endswith(lists.ENDINGS) and place.is_file():
        if name.endswith(".csv") and not options.image_column and pixels.holds_pixels(place):
            return pixels.list_pixels(spec, options)
        return lists.list_rows(spec, options)
    if place.is_file():
        raise ConfigError(
            f"data source {spec!r} is a file that is not read ({_described(place)}); "
            f"{EXPECTED_TREE}, or an archive of it ({', '.join(archive.ENDINGS)}), or a list "
            f"({', '.join(lists.ENDINGS)}; save spreadsheets as CSV), or TFRecord files (.tfrecord)"
        )
    return folder.list_folder(spec, options, least_classes)


def _described(file: Path) -> str:
    """Return what a file is in the words in which a rejected image is described."""
    with regular_files.open_regular(file) as stream:
        return Look(stream.read(_HEAD)).described()[0]


def place_of(spec: str) -> Path | None:
    """Return the path of a source on this machine; None for a name or an address."""
    is_path = not spec.startswith(tfds.PREFIX) and not _ADDRESS.match(spec)
    return Path(spec).expanduser().absolute() if spec and is_path else None


def absolute_spec(spec: str, base: Path) -> str:
    """Make the path of a spec absolute; names and addresses are left unchanged.

    Args:
        spec: The spec of a source, or a path.
        base: Folder that a relative path starts from.

    Raises:
        ConfigError: The spec is longer than a path can be, or contains a NUL character.
    """
    if "\0" in spec or len(spec) > _MAX_LENGTH:
        raise ConfigError(
            f"data source {spec[:60]!r}… has {len(spec):,} characters or a NUL character; expected "
            f"a path of {_MAX_LENGTH:,} characters at most"
        )
    if spec.startswith(tfds.PREFIX) or _ADDRESS.match(spec):
        return spec
    try:
        joined = base / Path(spec).expanduser()
        # Links stay, because a container may have other ones. After a link, ".." is in the folder
        # that the link leads to.
        return str(joined.resolve() if ".." in joined.parts else joined.absolute())
    except (OSError, RuntimeError) as error:  # no such user, or a loop of links
        raise ConfigError(f"data source {spec!r} is not a valid path: {error}") from None
