"""Tests of golden logits of known photographs, and of folding BatchNorm.

A wrong normalisation or padding leaves the top class the same most of the time, so the tests
compare numbers.
"""

from __future__ import annotations

import dataclasses
import io
import pickle
import struct
from collections import OrderedDict

import keras
import numpy as np
import pytest
from PIL import Image

from imgpipe.models import backbones
from imgpipe.models.backbones import registry
from imgpipe.models.backbones.architectures import efficientnet_lite0 as lite0
from imgpipe.models.backbones.torch_legacy import parse
from imgpipe.models.errors import ResourceError, UnsafeWeightsError

#: Highest logits (class: value) of scikit-image's photographs, from an independent implementation.
GOLDEN = {
    "chelsea": {282: 9.215, 285: 9.155, 281: 8.381},
    "coffee": {967: 11.402, 968: 7.252},
}


@pytest.fixture(scope="module")
def network():
    """Return a Keras model from pixels to the feature map, at 224 px."""
    pixels = keras.Input((224, 224, 3))
    return keras.Model(pixels, backbones.get(lite0.NAME).build(pixels))


def _photograph(name: str) -> np.ndarray:
    """Return a photograph as float32 [1, 224, 224, 3].

    The centre crop of 224/256 of the shorter side is resized bicubically.
    """
    from skimage import data

    image = Image.fromarray(getattr(data, name)())
    side = int(224 / 256 * min(image.size))
    left, top = (image.width - side) // 2, (image.height - side) // 2
    crop = image.crop((left, top, left + side, top + side))
    return np.asarray(crop.resize((224, 224), Image.Resampling.BICUBIC), np.float32)[None]


@pytest.mark.parametrize("name", GOLDEN)
def test_logits_of_photographs_equal_golden_values(network, name: str) -> None:
    weights = lite0.read_weights()
    features = network(_photograph(name), training=False).numpy().mean(axis=(1, 2))
    logits = (features @ weights["_fc.weight"].T + weights["_fc.bias"])[0]
    highest = logits.argsort()[::-1][: len(GOLDEN[name])]
    assert highest.tolist() == list(GOLDEN[name])
    np.testing.assert_allclose(logits[highest], list(GOLDEN[name].values()), atol=1e-2)


def test_another_weights_file_is_refused() -> None:
    other = dataclasses.replace(lite0.WEIGHTS, sha256="0" * 64)
    with pytest.raises(ResourceError, match="not the weights file this code was tested with"):
        registry.checked_sha256(other)


def test_a_missing_package_says_what_to_do() -> None:
    other = dataclasses.replace(lite0.WEIGHTS, package="no_such_package_here")
    with pytest.raises(ResourceError, match="uv sync"):
        other.content()


@pytest.mark.parametrize("trainable", [False, True])
def test_building_directly_gives_the_network_that_copying_gives(trainable) -> None:
    """Both have the same layers, settings and weights; copying takes twice the time."""
    from imgpipe.models.backbones.network_copy import rebuild

    backbone = backbones.get(lite0.NAME)

    def built(build):
        pixels = keras.Input((64, 64, 3), dtype="float32", name="pixels")
        return keras.Model(pixels, build(pixels))

    source = lite0.source(backbone, (64, 64))
    direct = built(lambda pixels: backbone.build(pixels, trainable))
    copied = built(lambda pixels: rebuild(source, pixels, trainable, fold=True))
    settings = [[layer.get_config() for layer in one.layers] for one in (direct, copied)]
    assert settings[0] == settings[1]
    assert len(direct.trainable_weights) == len(copied.trainable_weights)
    for here, there in zip(direct.get_weights(), copied.get_weights(), strict=True):
        np.testing.assert_array_equal(here, there)


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
