"""Tests for the reader of PyTorch's legacy weight files, which accepts plain tensors only."""

from __future__ import annotations

import io
import pickle
import struct
from collections import OrderedDict

import numpy as np
import pytest

from imgpipe.models.backbones.torch_legacy import parse
from imgpipe.models.errors import UnsafeWeightsError

_MACHINE = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}


class _Global:
    """A global `module.name` in a pickle, which is called with `arguments` if there are any."""

    def __init__(self, module: str, name: str, *arguments: object) -> None:
        self.module, self.name, self.arguments = module, name, arguments


class _Reference:
    """A persistent id in a pickle, with which PyTorch refers to a storage."""

    def __init__(self, *pid: object) -> None:
        self.pid = pid


class _Writer(pickle._Pickler):
    """A pickler that writes globals that cannot be imported here, such as those of PyTorch."""

    def persistent_id(self, obj: object) -> object:
        return obj.pid if isinstance(obj, _Reference) else None

    def save(self, obj: object, save_persistent_id: bool = True) -> None:
        if isinstance(obj, _Global):
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
            if obj.arguments:
                self.save(obj.arguments)
                self.write(pickle.REDUCE)
            return
        super().save(obj, save_persistent_id)


def _pickled(value: object) -> bytes:
    """Return `value` pickled with protocol 2."""
    file = io.BytesIO()
    _Writer(file, 2).dump(value)
    return file.getvalue()


def _tensor(kind: str, key: str, count: int, offset: int, shape: tuple, strides: tuple) -> _Global:
    """Return the pickled form of a tensor over the storage `key` of `count` elements."""
    reference = _Reference("storage", _Global("torch", kind), key, "cpu", count, None)
    hooks: OrderedDict = OrderedDict()
    place = (reference, offset, shape, strides)
    return _Global("torch._utils", "_rebuild_tensor_v2", *place, False, hooks)


def _file(state: object, storages: dict[str, np.ndarray]) -> bytes:
    """Return a legacy weight file of `state` and `storages`."""
    head = (0x1950A86A20F9469CFC6C, 1001, _MACHINE, state, list(storages))
    body = [_pickled(part) for part in head]
    for values in storages.values():
        body += [struct.pack("<q", values.size), values.tobytes()]
    return b"".join(body)


def test_reads_plain_and_strided_tensors_of_several_storages() -> None:
    state = OrderedDict(
        plain=_tensor("FloatStorage", "7", 12, 0, (3, 4), (4, 1)),
        turned=_tensor("FloatStorage", "7", 12, 0, (4, 3), (1, 4)),
        part=_tensor("FloatStorage", "7", 12, 5, (2,), (3,)),
        scalar=_tensor("LongStorage", "3", 2, 1, (), ()),
    )
    values = np.arange(12, dtype="<f4")
    tensors = parse(_file(state, {"7": values, "3": np.array([1 << 40, 11], "<i8")}))
    np.testing.assert_array_equal(tensors["plain"], values.reshape(3, 4))
    np.testing.assert_array_equal(tensors["turned"], values.reshape(3, 4).T)
    np.testing.assert_array_equal(tensors["part"], [5, 8])
    assert tensors["scalar"].shape == () and tensors["scalar"] == 11
    assert all(tensor.flags.c_contiguous for tensor in tensors.values())


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("torch", "load"),
        ("imgpipe.models.backbones.torch_legacy", "parse"),
        ("collections", "defaultdict"),
    ],
)
def test_refuses_to_load_any_global_that_tensors_do_not_need(
    module: str, name: str, tmp_path
) -> None:
    canary = tmp_path / "canary"
    state = _Global(module, name, f"touch {canary}")
    with pytest.raises(UnsafeWeightsError, match=rf"refuses to load {module}\.{name}"):
        parse(_file(state, {}))
    assert not canary.exists()
