"""A folder tree in an object store as a source: `gs://bucket/prefix` and `s3://bucket/prefix`.

The listing gives names, sizes and checksums, so that planning a run reads no image; the workers
read them. The file systems are those of fsspec, because one listing of Beam's has no checksums.
Credentials and addresses are taken from the environment, as the tools of the store's maker do
(https://gcsfs.readthedocs.io/en/latest/#credentials,
https://s3fs.readthedocs.io/en/latest/#credentials).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from imgpipe.components.common.image_file import file_names
from imgpipe.components.example_gen.sources.images import BYTE_LIMIT, Item, Listing, Reader
from imgpipe.components.example_gen.sources.layout import (
    EXPECTED_TREE,
    SECOND_FOLDER,
    lay_out,
)
from imgpipe.components.example_gen.sources.tree import Tree
from imgpipe.components.example_gen.sources.walk import divided, not_passed_over, safe_path
from imgpipe.models.errors import ConfigError, ResourceError, first_line
from imgpipe.models.machine.system import install_extra
from imgpipe.models.settings.data import DataSettings

#: Begin the specs of object stores.
SCHEMES: Final = ("gs://", "s3://")
#: Names of a content's checksum in the listings of S3 and of Google Cloud Storage, whose composite
#: objects have no MD5 (https://cloud.google.com/storage/docs/composite-objects).
_CHECKSUMS = ("ETag", "md5Hash", "crc32c", "etag")


def list_objects(uri: str, options: DataSettings, least_classes: int) -> Listing:
    """List the objects below a URI with scheme and bucket.

    Raises:
        ConfigError: There is no object, or the tree is not laid out as expected.
        ResourceError: The package for this store is missing, or the store does not answer.
    """
    system, root = _opened(uri)
    listing = Listing(uri, _ObjectReader(uri), EXPECTED_TREE, SECOND_FOLDER)
    items: dict[str, Item] = {}
    for name, about in _objects(uri, system, root).items():
        key = name.removeprefix(root)
        path, unsafe = safe_path(key.lstrip("/"))
        if unsafe:
            listing.notes.add("unsafe_name", name, unsafe)
        # A name with a slash at its end is an empty object that stands for a folder.
        elif path and about["type"] == "file" and not name.endswith("/"):
            if path in items:
                listing.notes.add("repeated_name", path, "several objects; the last one counts")
            items[path] = _item(path, key, about)
    if not items:
        raise ConfigError(f"data source {uri!r} does not exist or holds no object; {EXPECTED_TREE}")

    def head(path: str, length: int) -> bytes:
        _, key = _size_and_key(items[path])
        try:
            return bytes(system.cat_file(f"{root}{key}", start=0, end=length))
        except Exception:  # each store has error types of its own
            return b""

    around = {path.rpartition("/")[0].rpartition("/")[0] for path in items}

    def is_called_image(path: str) -> bool:
        """Whether only the name is known of an image: one without ending, and no README."""
        return not file_names.has_ending(path) and path.rpartition("/")[0] not in around

    paths = not_passed_over(items, options.skip, listing.notes)
    images, others = divided(paths, is_called_image)
    tree = Tree([items[path] for path in images], others, (), head, None)
    lay_out(listing, tree, options, least_classes)
    return listing


@dataclass(frozen=True)
class _ObjectReader(Reader):
    """Reads objects below a URI; the part of an item is `size:key`."""

    uri: str

    def _read(self, item: Item) -> bytes:
        size, key = _size_and_key(item)
        if size > BYTE_LIMIT:
            raise OSError(f"larger than {BYTE_LIMIT >> 20} MiB ({size:,} bytes)")
        system, root = _opened(self.uri)
        try:
            data = bytes(system.cat_file(f"{root}{key}"))
        except Exception as error:  # each store has error types of its own
            raise OSError(first_line(error).rstrip(".")) from error
        if len(data) != size:
            raise OSError(f"has {len(data):,} bytes, but {size:,} when it was listed")
        return data


def _objects(uri: str, system: Any, root: str) -> dict[str, dict[str, Any]]:
    system.invalidate_cache()  # fsspec would answer with its last listing
    try:
        return dict(system.find(root, detail=True))
    except FileNotFoundError:
        return {}
    except Exception as error:  # each store has error types of its own
        why = first_line(error).rstrip(".")
        raise ResourceError(
            f"data source {uri!r} cannot be listed: {why}. Check the network, the name of the "
            "bucket and the credentials in the environment."
        ) from error


def _opened(uri: str) -> tuple[Any, str]:
    """Return the file system of a URI, one of each kind in fsspec, and the path in it."""
    from fsspec.core import url_to_fs

    try:
        system, root = url_to_fs(uri)
    except ImportError as error:
        why = first_line(error).rstrip(".")
        raise ResourceError(
            f"data source {uri!r}: {why}. Install what reads it with: "
            f"{install_extra('object-store')}"
        ) from error
    return system, str(root).rstrip("/")


def _item(path: str, key: str, about: dict[str, Any]) -> Item:
    """Return an item with the checksum of its listing; the kind of checksum is a part of it.

    Its part is the size and the key below the root, which is `/cat//1.jpg` for cat/1.jpg.
    """
    kind = next((kind for kind in _CHECKSUMS if about.get(kind)), "")
    version = f"{kind}:{about[kind]}" if kind and about["size"] <= BYTE_LIMIT else ""
    return Item(path, version=version, part=f"{about['size']}:{key}")


def _size_and_key(item: Item) -> tuple[int, str]:
    """Return the size of an object in bytes, and its key below the root."""
    size, _, key = item.part.partition(":")
    return int(size), key
