"""Reads tensors from a weights file in torch's legacy format, without torch."""

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
#: Storage classes that a weights file may name, and the type of their elements (little-endian).
_STORAGES: Final[Mapping[str, str]] = {"FloatStorage": "<f4", "LongStorage": "<i8"}

Tensors = Mapping[str, npt.NDArray[Any]]


class _Unpickler(pickle.Unpickler):
    """An unpickler that accepts OrderedDict, tensors and storages, and nothing else.

    Any other pickle can run code when it is read.
    """

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.types: dict[str, str] = {}  # type of the elements by key of the storage

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            # Storage, offset, shape and strides; the values follow after the pickles.
            return lambda *arguments: arguments[:4]
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


def parse(data: bytes) -> Tensors:
    """Read all tensors from a weights file in torch's legacy format, without torch.

    It consists of five pickles, followed by every storage as an int64 element count and raw
    little-endian values; see `torch.save(..., _use_new_zipfile_serialization=False)`.

    Args:
        data: Content of the file, which has the expected SHA-256: its numbers are trusted.

    Returns:
        The tensors by name, each a contiguous array with the shape and number type of the file.

    Raises:
        UnsafeWeightsError: The file names something other than tensors.
    """
    file = io.BytesIO(data)
    unpickler = _Unpickler(file)
    *_, state, keys = (unpickler.load() for _ in range(_PICKLES))
    position = file.tell()
    storages = {}
    for key in keys:
        (count,) = struct.unpack_from("<q", data, position)
        start = position + struct.calcsize("<q")
        storages[key] = np.frombuffer(data, unpickler.types[key], count, start)
        position = start + storages[key].nbytes
    tensors = {}
    for name, (key, offset, shape, strides) in state.items():  # torch counts in elements
        steps = tuple(step * storages[key].itemsize for step in strides)
        view = np.lib.stride_tricks.as_strided(storages[key][offset:], shape, steps)
        tensors[name] = view.copy()
    return tensors
