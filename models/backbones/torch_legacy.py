"""Reads tensors from a weights file in torch's legacy format, without torch and without trust.

The file consists of five pickles (magic number, protocol, machine, the state dictionary, the list
of storage keys), followed by every storage as an int64 element count and raw little-endian values.
A pickle can run any code when it is read. Therefore the unpickler here accepts three names only,
and every offset, length and stride is checked before it is used.

Format: ``torch.save(..., _use_new_zipfile_serialization=False)`` as described in PyTorch's
serialization notes.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from imgpipe.models.errors import ResourceError
from imgpipe.models.files.regular_files import read_bytes

_MAGIC: Final = 0x1950A86A20F9469CFC6C
_PROTOCOL: Final = 1001
_PICKLES: Final = 5  # magic number, protocol, machine, tensors and names of the storages
_COUNT_BYTES: Final = 8  # each storage opens with an int64 element count
_MAX_DIMENSIONS: Final = 8
MAX_BYTES: Final = 4 << 30  # of a weights file; the largest of keras.applications has 1.4 GB
#: Storage classes that a weights file may name, and the type of their elements (little-endian).
_STORAGES: Final[Mapping[str, str]] = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
}


class UnsafeWeightsError(ResourceError):
    """The file is not a plain weights file in the legacy format, or it is damaged."""


def _refuse_state(state: object) -> None:
    """Raise an error, because a pickle can also set attributes of an object that it may create."""
    raise UnsafeWeightsError(f"weights file: sets the state of an object to {state!r:.80}")


class _Storage:
    """One storage that the pickle names. Its values follow after the pickles."""

    def __init__(self, key: str, dtype: str, count: int) -> None:
        self.key = key
        self.dtype = np.dtype(dtype)
        self.count = count
        self.values: npt.NDArray[Any] | None = None

    def __setstate__(self, state: object) -> None:
        _refuse_state(state)


class _Tensor:
    """A view of a storage, with offset and strides in elements as torch writes them."""

    def __init__(
        self,
        storage: _Storage,
        offset: int,
        shape: Sequence[int],
        strides: Sequence[int],
        *_unused: object,
    ) -> None:
        if not isinstance(storage, _Storage):
            raise UnsafeWeightsError("weights file: a tensor without a storage")
        numbers = (offset, *shape, *strides)
        # `type` instead of `isinstance`, for which True and False are integers.
        if any(type(n) is not int or n < 0 for n in numbers) or len(shape) != len(strides):
            raise UnsafeWeightsError(
                f"weights file: expected non-negative integer offset, shape and strides of one "
                f"length. Received: offset={offset!r}, shape={shape!r}, strides={strides!r}"
            )
        if len(shape) > _MAX_DIMENSIONS:
            raise UnsafeWeightsError(f"weights file: a tensor of {len(shape)} dimensions")
        self.storage, self.offset = storage, offset
        self.shape, self.strides = tuple(shape), tuple(strides)

    def __setstate__(self, state: object) -> None:
        _refuse_state(state)

    def read(self, name: str) -> npt.NDArray[Any]:
        """Return the tensor as a contiguous array, after checking its bounds.

        Raises:
            UnsafeWeightsError: The storage is missing or smaller than the tensor.
        """
        values = self.storage.values
        if values is None:
            raise UnsafeWeightsError(f"weights file: {name} refers to a storage that is not there")
        empty = 0 in self.shape
        steps = zip(self.shape, self.strides, strict=True)
        last = self.offset + (0 if empty else sum((size - 1) * step for size, step in steps))
        # With stride 0, which repeats values, a small file could demand any amount of memory.
        elements = 1
        for size in self.shape:
            elements *= size
        if elements > values.size or (not empty and last >= values.size):
            raise UnsafeWeightsError(
                f"weights file: {name} reaches element {last} (of {elements}) of a storage that "
                f"holds {values.size}; the file is damaged or not what it says"
            )
        if empty:
            return np.zeros(self.shape, values.dtype)
        bytes_step = tuple(step * values.dtype.itemsize for step in self.strides)
        view = np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, bytes_step)
        return np.ascontiguousarray(view).reshape(self.shape)


def _tensor(*arguments: Any) -> _Tensor:
    """Create a tensor.

    This is a function, because a pickle could create an object of a class without `__init__`.
    """
    return _Tensor(*arguments)


class _SafeUnpickler(pickle.Unpickler):
    """An unpickler that accepts OrderedDict, tensors and storage names, and nothing else."""

    def __init__(self, file: io.BufferedIOBase, storages: dict[str, _Storage]) -> None:
        super().__init__(file)
        self._storages = storages

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

    def persistent_load(self, pid: Any) -> _Storage:
        is_storage = isinstance(pid, tuple) and len(pid) == 6 and pid[0] == "storage"
        if not is_storage or pid[1] not in _STORAGES or pid[5] is not None:
            raise UnsafeWeightsError(f"weights file: unknown reference {pid!r}")
        _, kind, key, _device, count, _view = pid
        if not isinstance(key, str) or type(count) is not int or count < 0:
            raise UnsafeWeightsError(f"weights file: unknown reference {pid!r}")
        storage = self._storages.setdefault(key, _Storage(key, _STORAGES[kind], count))
        if storage.count != count or storage.dtype != np.dtype(_STORAGES[kind]):
            raise UnsafeWeightsError(f"weights file: storage {key} is described in two ways")
        return storage


def read(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read all tensors of a weights file.

    Args:
        path: Path of the file.

    Returns:
        The tensors by name, each a contiguous array with the shape and the number type of the
        file.

    Raises:
        ResourceError: The file cannot be read.
        UnsafeWeightsError: The file is not in the legacy format, names something that is not
            allowed, is truncated, or has data after the last storage.
    """
    try:
        data = read_bytes(path, MAX_BYTES)
    except OSError as error:
        raise ResourceError(f"cannot read the weights file {path}: {error}") from error
    return parse(data)


def parse(data: bytes) -> dict[str, npt.NDArray[Any]]:
    """Read all tensors from the content of a weights file.

    Args:
        data: Content of the file.

    Returns:
        The tensors by name, each a contiguous array with the shape and the number type of the
        file.

    Raises:
        UnsafeWeightsError: As for `read`.
    """
    file = io.BytesIO(data)
    storages: dict[str, _Storage] = {}
    try:
        _check_memo(data)  # reads the opcodes and builds nothing
        magic, protocol, machine, state, keys = (
            _SafeUnpickler(file, storages).load() for _ in range(_PICKLES)
        )
    except UnsafeWeightsError:
        raise
    except Exception as error:  # whatever a hostile pickle makes the unpickler raise
        raise UnsafeWeightsError(
            f"weights file: not readable as torch's legacy format ({type(error).__name__}: {error})"
        ) from error
    if magic != _MAGIC or protocol != _PROTOCOL:
        raise UnsafeWeightsError(
            f"weights file: expected magic {_MAGIC:#x} and protocol {_PROTOCOL}. "
            f"Received: {magic!r}, {protocol!r}"
        )
    # A pickle can replace the methods of an OrderedDict, so those of its type are called.
    if not isinstance(machine, dict) or dict.get(machine, "little_endian") is not True:
        raise UnsafeWeightsError("weights file: expected little-endian values")
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise UnsafeWeightsError("weights file: expected a list of the storages' names")
    if sorted(keys) != sorted(storages):  # a key that occurs twice is refused here, too
        raise UnsafeWeightsError("weights file: the list of storages does not match the tensors")
    _fill(data, file.tell(), [storages[key] for key in keys])
    return _tensors(state)


def _check_memo(data: bytes) -> None:
    """Refuses pickles with a very large memo index, since every index up to it takes 8 bytes."""
    file = io.BytesIO(data)
    for _ in range(_PICKLES):
        for operation, argument, place in pickletools.genops(file):
            if "PUT" in operation.name and isinstance(argument, int) and argument > (place or 0):
                raise UnsafeWeightsError(
                    f"weights file: notes a value under the number {argument} at byte {place}"
                )


def _fill(data: bytes, position: int, storages: Sequence[_Storage]) -> None:
    """Read the storages that follow the pickles and check that none is missing or left over."""
    for storage in storages:
        size = storage.count * storage.dtype.itemsize
        start = position + _COUNT_BYTES
        if start + size > len(data):
            raise UnsafeWeightsError(
                f"weights file: cut short, storage {storage.key} needs {start + size} bytes. "
                f"Received: {len(data)}"
            )
        (count,) = struct.unpack_from("<q", data, position)
        if count != storage.count:
            raise UnsafeWeightsError(
                f"weights file: storage {storage.key} holds {count} elements, expected "
                f"{storage.count}"
            )
        storage.values = np.frombuffer(data, storage.dtype, storage.count, start)
        position = start + size
    if position != len(data):
        raise UnsafeWeightsError(f"weights file: {len(data) - position} bytes after the last value")


def _tensors(state: object) -> dict[str, npt.NDArray[Any]]:
    if not isinstance(state, dict):
        raise UnsafeWeightsError(f"weights file: expected a state dictionary, got {type(state)}")
    tensors = {}
    for name, tensor in dict.items(state):
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            raise UnsafeWeightsError(f"weights file: {name!r:.80} is not a tensor")
        tensors[name] = tensor.read(name)
        if not np.isfinite(tensors[name]).all():
            raise UnsafeWeightsError(f"weights file: {name} holds NaN or infinite values")
    return tensors
