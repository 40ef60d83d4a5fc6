"""A folder tree in an object store as a source: `gs://bucket/prefix` and `s3://bucket/prefix`.

The listing gives names, sizes and checksums, so that planning a run reads no image; the workers
read them. The file systems are those of fsspec, because one listing of Beam's has no checksums.
Credentials and addresses are taken from the environment, as the tools of the store's maker do
(https://gcsfs.readthedocs.io/en/latest/#credentials,
https://s3fs.readthedocs.io/en/latest/#credentials).
"""

from __future__ import annotations

from typing import Any

from imgpipe.components.example_gen.notes import noted
from imgpipe.components.example_gen.sources.base import (
    EXPECTED_TREE,
    Item,
    Scan,
    Source,
    SourceKind,
)
from imgpipe.components.example_gen.sources.local_files import BYTE_LIMIT, safe_path
from imgpipe.components.example_gen.sources.refusal import lay_out
from imgpipe.models.errors import ConfigError, ResourceError, first_line
from imgpipe.models.finding import Finding
from imgpipe.models.machine.system import install_extra

#: Names of a content's checksum in the listings of S3 and of Google Cloud Storage, whose composite
#: objects have no MD5 (https://cloud.google.com/storage/docs/composite-objects).
_CHECKSUMS = ("ETag", "md5Hash", "crc32c", "etag")


class ObjectStoreSource(Source):
    """All objects below a prefix, whose locator is the URI with scheme and bucket."""

    def unchecked(self) -> Scan:
        """List the objects; see `Source.unchecked`.

        Raises ResourceError if the package for this store is missing, or the store does not answer.
        """
        system, root = _opened(self.locator)
        objects = self._objects(system, root)
        if not objects:
            raise ConfigError(
                f"data source {self.locator!r} does not exist or holds no object; {EXPECTED_TREE}"
            )
        notes: list[Finding] = []
        items: dict[str, Item] = {}
        for name, about in objects.items():
            key = name.removeprefix(root)
            path, unsafe = safe_path(key.lstrip("/"))
            if unsafe:
                notes.append(noted("unsafe_name", name, unsafe))
            # A name with a slash at its end is an empty object that stands for a folder.
            elif path and about["type"] == "file" and not name.endswith("/"):
                if path in items:
                    notes.append(
                        noted("repeated_name", path, "several objects; the last one counts")
                    )
                items[path] = _item(path, key, about)
        return lay_out(self, list(items.values()), (), notes)

    def read(self, item: Item) -> bytes:
        """Read one object; see `Source.read`.

        Raises OSError, too, if the object is larger than 256 MiB, or has another size than when it
        was listed.
        """
        size, key = _size_and_key(item)
        if size > BYTE_LIMIT:
            raise OSError(f"larger than {BYTE_LIMIT >> 20} MiB ({size:,} bytes)")
        system, root = _opened(self.locator)
        try:
            data = bytes(system.cat_file(f"{root}{key}"))
        except Exception as error:  # each store has error types of its own
            raise OSError(first_line(error).rstrip(".")) from error
        if len(data) != size:
            raise OSError(f"has {len(data):,} bytes, but {size:,} when it was listed")
        return data

    def _objects(self, system: Any, root: str) -> dict[str, dict[str, Any]]:
        system.invalidate_cache()  # fsspec would answer with its last listing
        try:
            return dict(system.find(root, detail=True))
        except FileNotFoundError:
            return {}
        except Exception as error:  # each store has error types of its own
            why = first_line(error).rstrip(".")
            raise ResourceError(
                f"data source {self.locator!r} cannot be listed: {why}. Check the "
                "network, the name of the bucket and the credentials in the environment."
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

    The locator is the size and the key below the root, which is `/cat//1.jpg` for cat/1.jpg.
    """
    kind = next((kind for kind in _CHECKSUMS if about.get(kind)), "")
    version = f"{kind}:{about[kind]}" if kind and about["size"] <= BYTE_LIMIT else ""
    return Item(path, version=version, locator=f"{about['size']}:{key}")


def _size_and_key(item: Item) -> tuple[int, str]:
    """Return the size of an object in bytes, and its key below the root."""
    size, _, key = item.locator.partition(":")
    return int(size), key


def _kind(scheme: str) -> SourceKind:
    return SourceKind(
        scheme,
        lambda locator, *how: ObjectStoreSource(f"{scheme}:{locator}", *how),
        is_path=False,
    )


KINDS = (_kind("gs"), _kind("s3"))
