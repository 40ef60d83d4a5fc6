"""Tests for the reader of PyTorch's legacy weight files, which accepts plain tensors only."""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict

import numpy as np
import pytest

from imgpipe.models.backbones import torch_legacy
from imgpipe.models.backbones.torch_legacy import UnsafeWeightsError, parse
from imgpipe.models.errors import ResourceError

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
    import io

    file = io.BytesIO()
    _Writer(file, 2).dump(value)
    return file.getvalue()


def legacy_tensor(key: str, count: int, offset: int, shape: tuple, strides: tuple) -> _Global:
    """Return the pickled form of a float32 tensor over the storage `key` of `count` elements."""
    reference = _Reference("storage", _Global("torch", "FloatStorage"), key, "cpu", count, None)
    return _Global(
        "torch._utils",
        "_rebuild_tensor_v2",
        reference,
        offset,
        shape,
        strides,
        False,
        OrderedDict(),
    )


def legacy_file(
    state: object, storages: dict[str, np.ndarray] | None = None, **parts: object
) -> bytes:
    """Return a legacy weight file of `state` and float32 storages; `parts` overrides its frame."""
    storages = {} if storages is None else storages
    head = [
        parts.get("magic", 0x1950A86A20F9469CFC6C),
        parts.get("protocol", 1001),
        parts.get("machine", _MACHINE),
        state,
        parts.get("keys", sorted(storages)),
    ]
    body = [_pickled(part) for part in head]
    for key in sorted(storages):
        values = storages[key].astype("<f4")
        body += [struct.pack("<q", parts.get("count", values.size)), values.tobytes()]
    return b"".join(body)


_VALUES = {"0": np.arange(12, dtype=np.float32)}


def test_reads_plain_and_strided_tensors() -> None:
    state = OrderedDict(
        plain=legacy_tensor("0", 12, 0, (3, 4), (4, 1)),
        turned=legacy_tensor("0", 12, 0, (4, 3), (1, 4)),
        part=legacy_tensor("0", 12, 5, (2,), (3,)),
        scalar=legacy_tensor("0", 12, 11, (), ()),
    )
    tensors = parse(legacy_file(state, _VALUES))
    expected = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(tensors["plain"], expected)
    np.testing.assert_array_equal(tensors["turned"], expected.T)
    np.testing.assert_array_equal(tensors["part"], [5, 8])
    assert tensors["scalar"].shape == () and tensors["scalar"] == 11
    assert all(tensor.flags.c_contiguous for tensor in tensors.values())


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("torch", "load"),
        ("imgpipe.models.backbones.torch_legacy", "read"),
        ("collections", "defaultdict"),
    ],
)
def test_refuses_to_load_any_global_that_tensors_do_not_need(
    module: str, name: str, tmp_path
) -> None:
    canary = tmp_path / "canary"
    state = _Global(module, name, f"touch {canary}")
    with pytest.raises(UnsafeWeightsError, match=rf"refuses to load {module}\.{name}"):
        parse(legacy_file(state))
    assert not canary.exists()


def test_refuses_a_file_that_is_cut_short_at_any_byte() -> None:
    whole = legacy_file(OrderedDict(a=legacy_tensor("0", 12, 0, (12,), (1,))), _VALUES)
    parse(whole)
    for length in range(len(whole)):
        with pytest.raises(UnsafeWeightsError, match=r"cut short|not readable as torch's legacy"):
            parse(whole[:length])


def test_refuses_trailing_bytes() -> None:
    whole = legacy_file(OrderedDict(a=legacy_tensor("0", 12, 0, (12,), (1,))), _VALUES)
    with pytest.raises(UnsafeWeightsError, match="3 bytes after the last value"):
        parse(whole + b"abc")


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [
        ((12,), (1,), 1),
        ((4, 4), (4, 1), 0),
        ((2,), (100,), 0),
        ((1,), (1,), 12),
        ((1 << 40,), (0,), 0),
        ((2,), (-1,), 3),
        ((2,), (1,), -1),
        ((2, 2), (1,), 0),
        (("2",), (1,), 0),
    ],
)
def test_refuses_a_tensor_beyond_its_storage(shape, strides, offset) -> None:
    state = OrderedDict(a=legacy_tensor("0", 12, offset, shape, strides))
    with pytest.raises(UnsafeWeightsError, match=r"a reaches element|non-negative integer offset"):
        parse(legacy_file(state, _VALUES))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"magic": 1}, "expected magic"),
        ({"protocol": 1002}, "expected magic"),
        ({"machine": {"little_endian": False}}, "little-endian"),
        ({"keys": []}, "list of storages"),
        ({"keys": ["0", "0"]}, "list of storages"),
        ({"count": 11}, "holds 11 elements"),
    ],
)
def test_refuses_a_wrong_header_or_list_of_storages(parts: dict, message: str) -> None:
    state = OrderedDict(a=legacy_tensor("0", 12, 0, (12,), (1,)))
    with pytest.raises(UnsafeWeightsError, match=message):
        parse(legacy_file(state, _VALUES, **parts))


def test_refuses_a_state_whose_values_are_not_tensors() -> None:
    with pytest.raises(UnsafeWeightsError, match="is not a tensor"):
        parse(legacy_file(OrderedDict(a="text")))


def test_refuses_nan_and_infinite_values() -> None:
    values = {"0": np.array([1, np.nan], np.float32)}
    with pytest.raises(UnsafeWeightsError, match="a holds NaN or infinite values"):
        parse(legacy_file(OrderedDict(a=legacy_tensor("0", 2, 0, (2,), (1,))), values))


def test_refuses_names_of_storages_that_are_not_text() -> None:
    state = OrderedDict(a=legacy_tensor("0", 12, 0, (12,), (1,)))
    with pytest.raises(UnsafeWeightsError, match="expected a list of the storages' names"):
        parse(legacy_file(state, _VALUES, keys=[0]))


def test_a_replaced_method_of_the_dictionary_is_not_called() -> None:
    state = OrderedDict(a=legacy_tensor("0", 12, 0, (12,), (1,)))
    pickled, attribute = _pickled(state), b"}X\x05\x00\x00\x00itemsX\x04\x00\x00\x00textsb."
    whole = legacy_file(state, _VALUES)
    assert list(parse(whole.replace(pickled, pickled[:-1] + attribute))) == ["a"]


def test_refuses_a_tensor_that_is_created_without_arguments() -> None:
    empty = b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n)\x81s."
    head = [_pickled(part) for part in (0x1950A86A20F9469CFC6C, 1001, _MACHINE)]
    with pytest.raises(UnsafeWeightsError, match="not readable as torch's legacy format"):
        parse(b"".join([*head, empty, _pickled([])]))


def test_refuses_a_pickle_that_would_fill_the_memory() -> None:
    bomb = b"\x80\x02Nr\xff\xff\xff\x7f."  # memoizes None under the number 2^31 - 1
    with pytest.raises(UnsafeWeightsError, match="notes a value under the number 2147483647"):
        parse(bomb)


def test_a_missing_file_is_a_resource_error(tmp_path) -> None:
    with pytest.raises(ResourceError, match="cannot read the weights file"):
        torch_legacy.read(tmp_path / "none.pth")
