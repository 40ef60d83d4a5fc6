"""Reads tensors from a weights file in torch's legacy format, without torch.

The file consists of five pickles (magic number, protocol, machine, the state dictionary, the list
of storage keys), followed by every storage as an int64 element count and raw little-endian values.
A pickle can run any code when it is read, so the unpickler here accepts a few names only. The
numbers in the file are trusted: callers compare the file with a known SHA-256 first.

Format: ``torch.save(..., _use_new_zipfile_serialization=False)`` as described in PyTorch's
serialization notes.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from imgpipe.models.errors import UnsafeWeightsError

_PICKLES: Final = 5  # magic number, protocol, machine, tensors and names of the storages
_COUNT_BYTES: Final = 8  # each storage opens with an int64 element count
#: Storage classes that a weights file may name, and the type of their elements (little-endian).
_STORAGES: Final[Mapping[str, str]] = {"FloatStorage": "<f4", "LongStorage": "<i8"}


class _Unpickler(pickle.Unpickler):
    """An unpickler that accepts OrderedDict, tensors and storages, and nothing else."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.types: dict[str, str] = {}  # type of the elements by key of the storage

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in _STORAGES:
            return name  # the name stands for torch's class; `persistent_load` receives it
        raise UnsafeWeightsError(
            f"weights file: refuses to load {module}.{name}; expected only OrderedDict, tensors "
            "and storages. Get the file from the package that the lock names"
        )

    def persistent_load(self, pid: Any) -> str:
        _, kind, key, _device, _count, _view = pid
        self.types[key] = _STORAGES[kind]
        return str(key)


def _tensor(*arguments: Any) -> tuple[Any, ...]:
    """Return key of the storage, offset, shape and strides; the values follow after the pickles."""
    return arguments[:4]


def parse(data: bytes) -> dict[str, npt.NDArray[Any]]:
    """Read all tensors from the content of a weights file.

    Args:
        data: Content of the file, which has the expected SHA-256.

    Returns:
        The tensors by name, each a contiguous array with the shape and the number type of the
        file.

    Raises:
        UnsafeWeightsError: The file names something other than tensors.
    """
    file = io.BytesIO(data)
    unpickler = _Unpickler(file)
    _magic, _protocol, _machine, state, keys = (unpickler.load() for _ in range(_PICKLES))
    position, storages = file.tell(), {}
    for key in keys:
        (count,) = struct.unpack_from("<q", data, position)
        start = position + _COUNT_BYTES
        storages[key] = np.frombuffer(data, unpickler.types[key], count, start)
        position = start + storages[key].nbytes
    return {name: _values(storages[key], *place) for name, (key, *place) in state.items()}


def _values(
    storage: npt.NDArray[Any], offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> npt.NDArray[Any]:
    """Copy a tensor from its storage; offset and strides count elements, as torch writes them."""
    steps = tuple(step * storage.itemsize for step in strides)
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps).copy()
