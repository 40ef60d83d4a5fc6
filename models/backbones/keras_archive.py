"""Reads weights from a ``.keras`` archive and acts on nothing else in it.

The archive's configuration is never deserialised, because the network is built by our own code. The
configuration is only read as JSON, and an archive that would run code in Keras is refused, since it
was made to attack.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final

from imgpipe.models.backbones.architecture import MAX_BYTES
from imgpipe.models.errors import UnsafeWeightsError

_CONFIG: Final = "config.json"
_WEIGHTS: Final = "model.weights.h5"
_MEMBERS: Final = frozenset({_CONFIG, "metadata.json", _WEIGHTS})
_MAX_CONFIG: Final = 64 << 20  # bytes; NASNetLarge has 1 MB
_MAX_RATIO: Final = 20  # unpacked to packed size; JSON shrinks tenfold, trained weights hardly

#: Decoders of these methods return at most the requested bytes, unlike those of LZMA and bzip2.
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

#: Classes whose configuration contains code or refers to it. Keras 3 runs Lambda only with
#: `safe_mode` off; archives have turned it off themselves (CVE-2025-9906).
_CODE: Final = frozenset(
    {"Lambda", "__lambda__", "function", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}
)
#: Names that no plain model contains, as a key or as a value.
_WORDS: Final = frozenset({"enable_unsafe_deserialization", "safe_mode", "__lambda__"})


def weights(content: bytes, path: Path) -> bytes:
    """Return the HDF5 file inside the archive.

    Args:
        content: Content of the archive.
        path: Path of the archive, for messages.

    Raises:
        UnsafeWeightsError: The archive is damaged, or is not a plain archive of a Keras model.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _check_members(archive, path)  # before anything is unpacked
            _check_config(json.loads(_member(archive, _CONFIG)), path)
            return _member(archive, _WEIGHTS)
    except UnsafeWeightsError:
        raise
    except Exception as error:  # zipfile, zlib and json raise errors of many kinds
        raise UnsafeWeightsError(
            f"{path}: damaged .keras archive ({type(error).__name__}: {error})"
        ) from error


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return the content of a member, of at most the size that the archive states."""
    info = archive.getinfo(name)
    with archive.open(info) as file:
        content = file.read(info.file_size)
    if len(content) != info.file_size:
        raise zipfile.BadZipFile(f"{name} holds {len(content)} of {info.file_size} bytes")
    return content


def _check_members(archive: zipfile.ZipFile, path: Path) -> None:
    seen: set[str] = set()
    for member in archive.infolist():
        name = PurePosixPath(member.filename)
        plain = not name.is_absolute() and ".." not in name.parts and "\\" not in member.filename
        # `assets` holds files of layers such as vocabularies; it may be there and is never read.
        known = member.filename in _MEMBERS or name.parts[:1] == ("assets",)
        if not plain or not known or member.filename in seen:
            raise UnsafeWeightsError(
                f"{path}: expected an archive of {', '.join(sorted(_MEMBERS))}. Received: a "
                f"member {member.filename!r}{' twice' if member.filename in seen else ''}"
            )
        seen.add(member.filename)
        if member.compress_type not in _METHODS:
            raise UnsafeWeightsError(
                f"{path}: {member.filename}: expected a member that is stored or deflated. "
                f"Received: compression method {member.compress_type}"
            )
        # The ratio says nothing about small members; 1.25 MiB (20 times 64 KiB) always pass.
        most = MAX_BYTES if member.filename == _WEIGHTS else _MAX_CONFIG
        if member.file_size > min(most, _MAX_RATIO * max(member.compress_size, 1 << 16)):
            raise UnsafeWeightsError(
                f"{path}: {member.filename}: {member.compress_size} bytes claim to unpack to "
                f"{member.file_size}"
            )


def _check_config(config: Any, path: Path) -> None:
    for place, value in _walk(config):
        code = None
        if isinstance(value, dict):
            kind, module = value.get("class_name"), value.get("module")
            if kind in _CODE:
                code = f"{kind} {value.get('config') if kind == 'function' else ''}".strip()
            elif isinstance(module, str) and module.split(".")[0] != "keras":
                code = f"{module}.{kind}"  # the loader would import this module (CVE-2025-1550)
            elif not _WORDS.isdisjoint(value):
                code = ", ".join(sorted(_WORDS & set(value)))
        elif isinstance(value, str) and value in _WORDS:
            code = value
        if code:
            raise UnsafeWeightsError(
                f"{path}: loading this model can run code: {place or 'the model'} is {code[:80]}. "
                "Expected: plain layers of Keras. Where you trust the model, load it and call "
                "model.save_weights('NAME.weights.h5')"
            )


def _walk(config: Any) -> Iterator[tuple[str, Any]]:
    """Yield every value of a configuration, with the name of the layer that contains it."""
    waiting: list[tuple[str, Any]] = [("", config)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, dict):
            inner = value.get("config")
            name = value.get("name", inner.get("name") if isinstance(inner, dict) else None)
            place = name if isinstance(name, str) else place
        yield place, value
        if isinstance(value, dict):
            waiting.extend((place, inside) for inside in value.values())
        elif isinstance(value, list):
            waiting.extend((place, inside) for inside in value)
