"""Weights from a local file, of which only the numbers are read.

Keras' own loaders have repeatedly run code from such files, or read other files named in them
(CVE-2024-3660, CVE-2025-1550, CVE-2025-9905, CVE-2026-0897, CVE-2026-1669, …). Here our own code
builds the network, and no configuration in a file is used. The file only provides arrays, which are
found by the names of the layers and must have their shapes. Accepted files are Keras 3 weights
(``.weights.h5``), weights of older Keras versions (``.h5``), and the weights inside a ``.keras``
archive. Refused are whole models in ``.h5``, everything that would run code in another loader, and
every HDF5 object that refers to another file or claims more data than the file contains.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from imgpipe.models.backbones import keras_archive
from imgpipe.models.backbones.architecture import MAX_BYTES
from imgpipe.models.backbones.nested_layers import walk
from imgpipe.models.errors import ResourceError, UnsafeWeightsError
from imgpipe.models.files.regular_files import read_bytes

if TYPE_CHECKING:
    import h5py
    import keras

_HDF5: Final = b"\x89HDF\r\n\x1a\n"
_ZIP: Final = b"PK"
_MAX_OBJECTS: Final = 100_000  # groups and datasets; NASNetLarge has about 10,000
_SHOWN: Final = 8  # mismatches of each kind that an error lists


@dataclass(frozen=True)
class Layer:
    """The arrays of one layer in the file, before they are read."""

    name: str
    arrays: tuple[h5py.Dataset, ...]

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the arrays."""
        return tuple(array.shape for array in self.arrays)


def load(model: keras.Model, path: Path, sha256: str = "") -> None:
    """Load the weights of a file into the layers of a model, either all of them or none.

    A dense classifier in the file is ignored when the model has none.

    Args:
        model: Functional model of Keras layers.
        path: Path of the file.
        sha256: Expected SHA-256 (hex) of the file; "" skips the check.

    Raises:
        ResourceError: The file cannot be read, has another SHA-256, or belongs to another network.
        UnsafeWeightsError: The file is damaged or contains something that is not allowed.
    """
    import h5py

    content = _read(path, sha256)
    if content.startswith(_ZIP):
        content = keras_archive.weights(content, path)
    if not content.startswith(_HDF5):
        raise UnsafeWeightsError(
            f"{path}: expected a file of Keras weights (.weights.h5, .h5 or .keras). Received: "
            f"something that begins with {content[:8]!r}"
        )
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            _check(file, path)
            values = _match(model, file, path)
    except ResourceError:
        raise
    except Exception as error:  # h5py raises errors of many kinds for damaged files
        raise UnsafeWeightsError(
            f"{path}: damaged file of weights ({type(error).__name__}: {error})"
        ) from error
    for weight, array in values:  # only now, so that a file that is refused changes no layer
        weight.assign(array)
    for _, layer in walk(model.layers):
        if hasattr(layer, "finalize_state"):  # Normalization derives constants from its weights
            layer.finalize_state()


def _read(path: Path, sha256: str) -> bytes:
    """Return the content of the file, so that what was checked cannot change before it is used."""
    try:
        content = read_bytes(path, MAX_BYTES)
    except OSError as error:
        raise ResourceError(
            f"model.weights: cannot read {path}: {error.strerror or error}"
        ) from error
    received = hashlib.sha256(content).hexdigest()
    if sha256 and received != sha256.lower():
        raise ResourceError(
            f"model.weights: {path} is not the expected file. Expected SHA-256 {sha256}. "
            f"Received: {received}"
        )
    return content


def _check(file: h5py.File, path: Path) -> None:
    """Refuses a file that is not a plain tree of arrays that this file itself contains."""
    if "model_config" in file.attrs or "model_weights" in file:
        raise UnsafeWeightsError(
            f"{path}: is a whole model; loading one can run code. Expected: its weights alone. "
            "Where you trust the model, load it and call model.save_weights('NAME.weights.h5')"
        )
    seen: set[int] = set()
    for name, dataset in _datasets(file, path, seen):
        refused = {
            # CVE-2026-1669: virtual and external data are read from other files of this machine.
            "data of other files": dataset.is_virtual or dataset.external,
            # Keras does not compress, and a few compressed bytes could fill the memory.
            "compressed data": dataset.id.get_create_plist().get_nfilters(),
            f"values of type {dataset.dtype}": dataset.dtype.kind not in "fiu",
        }
        kind = next((kind for kind, found in refused.items() if found), None)
        if kind is not None:
            raise UnsafeWeightsError(
                f"{path}: {name}: expected plain numbers inside the file. Received: {kind}"
            )
        # HDF5 fills what a dataset claims and does not hold, so that its shape alone takes memory.
        held = dataset.id.get_storage_size()
        if dataset.size * dataset.dtype.itemsize > held:
            raise UnsafeWeightsError(
                f"{path}: {name}: claims shape {dataset.shape} and holds {held} bytes"
            )


def _datasets(group: h5py.Group, path: Path, seen: set[int]) -> Iterator[tuple[str, h5py.Dataset]]:
    import h5py

    for name in group:
        link = group.get(name, getlink=True)
        if link is None:
            raise OSError(f"{name!r} leads nowhere")
        if not isinstance(link, h5py.HardLink):
            raise UnsafeWeightsError(
                f"{path}: {group.name.rstrip('/')}/{name}: refuses a link "
                f"({type(link).__name__}) to {getattr(link, 'filename', '') or link.path!r}"
            )
        member = group[name]
        address = h5py.h5o.get_info(member.id).addr  # the same for every hard link to an object
        if address in seen or len(seen) >= _MAX_OBJECTS:
            raise UnsafeWeightsError(f"{path}: {member.name}: refuses a tree with loops")
        seen.add(address)
        if isinstance(member, h5py.Group):
            yield from _datasets(member, path, seen)
        elif isinstance(member, h5py.Dataset):
            yield member.name, member
        else:
            raise UnsafeWeightsError(f"{path}: {member.name}: refuses a {type(member).__name__}")


def _match(model: keras.Model, file: h5py.File, path: Path) -> list[tuple[Any, npt.NDArray[Any]]]:
    """Return each weight with its array, which is read only after all names and shapes match."""
    import h5py

    # Keras 1 and 2 list the layers in this attribute, and Keras 3 names its groups after classes.
    if "layer_names" in file.attrs or "layer_names0" in file.attrs:
        stored = list(_legacy_layers(file))
        holders = [layer for layer in model.layers if layer.weights]
        wanted = {
            name: (layer, layer.weights)
            for name, layer in _by_name_or_order(holders, stored).items()
        }
    else:
        layers = file.get("layers")
        stored = list(_keras3_layers(layers)) if isinstance(layers, h5py.Group) else []
        wanted = {
            name: (layer, weights)
            for name, layer in walk(model.layers)
            if (weights := _own_weights(layer))
        }
    found = {layer.name: layer for layer in stored}
    differences = {
        "Layers that the file lacks": [
            f"{layer.name} ({name})" for name, (layer, _) in wanted.items() if name not in found
        ],
        # Files with the classifier of the network are common; the model here has its own head.
        "Layers that only the file has": [
            f"{layer.name} {_spelled(layer.shapes)}"
            for layer in stored
            if layer.name not in wanted and not _is_dense(layer)
        ],
        "Layers of other shapes": [
            f"{layer.name} ({name}): expected {_spelled(_shapes(weights))}, "
            f"received {_spelled(found[name].shapes)}"
            for name, (layer, weights) in wanted.items()
            if name in found and found[name].shapes != _shapes(weights)
        ],
    }
    listed = [f"{title}: {_list(layers)}" for title, layers in differences.items() if layers]
    if listed:
        raise ResourceError(
            f"model.weights: {path} is not of {model.name} as it was set (name, width). "
            + ". ".join(listed)
        )
    return [
        (weight, _finite(array, path))
        for name, (_, weights) in wanted.items()
        for weight, array in zip(weights, found[name].arrays, strict=True)
    ]


def _finite(array: h5py.Dataset, path: Path) -> npt.NDArray[Any]:
    """Return the values of an array; a value that does not fit into float32 is an error."""
    values = np.asarray(array[()])
    with np.errstate(over="ignore"):
        wrong = values.size - np.count_nonzero(np.isfinite(values.astype(np.float32)))
    if wrong:
        raise UnsafeWeightsError(
            f"{path}: {array.name}: expected finite numbers. Received: {wrong} of {values.size} "
            "are NaN or infinite; training that made this file had diverged, or it is damaged"
        )
    return values


def _own_weights(layer: Any) -> list[Any]:
    """Return the weights of a layer without those of the layers inside it, in Keras 3's order."""
    import keras

    stored: dict[str, Any] = {}
    layer.save_own_variables(stored)
    weights = [stored[name] for name in sorted(stored, key=_numbered)]
    return [weight for weight in weights if isinstance(weight, keras.Variable)]


def _keras3_layers(group: h5py.Group, path: str = "") -> Iterator[Layer]:
    """Yield the layers in a group and the layers inside them, by their paths below the group."""
    import h5py

    for name, member in group.items():
        if not isinstance(member, h5py.Group) or name == "optimizer":
            continue  # a trained model inside the model has an optimizer
        if name == "vars":
            numbers = sorted(member, key=_numbered)
            if numbers:
                yield Layer(path, tuple(_array(member, number) for number in numbers))
        else:
            yield from _keras3_layers(member, f"{path}/{name}" if path else name)


def _numbered(name: str) -> tuple[int, str]:
    return len(name), name  # "10" comes after "9"


def _legacy_layers(file: h5py.File) -> Iterator[Layer]:
    for name in _strings(file, "layer_names"):
        group = file[name]
        arrays = tuple(_array(group, weight) for weight in _strings(group, "weight_names"))
        if arrays:
            yield Layer(name, arrays)


def _array(group: h5py.Group, name: str) -> h5py.Dataset:
    import h5py

    member = group[name]
    if not isinstance(member, h5py.Dataset):
        raise UnsafeWeightsError(
            f"{group.file.filename}: {member.name}: expected an array. Received: a "
            f"{type(member).__name__}"
        )
    return member


def _strings(group: h5py.Group, name: str) -> list[str]:
    """Return a list of names; Keras splits a long list into several attributes."""
    if name in group.attrs:
        parts = [group.attrs[name]]
    else:
        parts = []
        while f"{name}{len(parts)}" in group.attrs:
            parts.append(group.attrs[f"{name}{len(parts)}"])
    return [
        text.decode() if isinstance(text, bytes) else str(text) for part in parts for text in part
    ]


def _by_name_or_order(holders: Sequence[Any], stored: Sequence[Layer]) -> dict[str, Any]:
    """Return layers by their name in a file of older Keras, whose counters start anywhere."""
    wanted = {layer.name: layer for layer in holders}
    plain = [layer.name for layer in stored]
    while len(plain) > len(holders) and _is_dense(stored[len(plain) - 1]):
        plain.pop()  # the classifier
    # "conv2d_17" of a long session is "conv2d" here. `_match` compares the shapes afterwards.
    if set(plain) != set(wanted) and len(plain) == len(holders):
        return dict(zip(plain, holders, strict=True))
    return wanted


def _is_dense(layer: Layer) -> bool:
    return len(layer.shapes[0]) == 2  # kernels of convolutions have four axes


def _shapes(weights: Sequence[Any]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(weight.shape) for weight in weights)


def _spelled(shapes: Sequence[tuple[int, ...]]) -> str:
    return " ".join("×".join(str(size) for size in shape) or "()" for shape in shapes)


def _list(items: Sequence[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
