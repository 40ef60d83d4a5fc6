"""Tests that weight files shaped like known exploits are refused and that their code never runs.

Where it is safe to try, the test first makes Keras itself run the code by switching its protection
off. The file `canary` that the code writes proves that the exploit would work.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from imgpipe.models import backbones
from imgpipe.models.errors import ResourceError, UnsafeWeightsError

# When it saves weights, Keras converts TensorFlow variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy")

_NAME = "conv_64_64"


@pytest.fixture
def canary(tmp_path, monkeypatch) -> Path:
    """Return the path of a file that the exploits would create, and tell it to their code."""
    path = tmp_path / "canary"
    monkeypatch.setenv("IMGPIPE_TEST_CANARY", str(path))
    return path


def _network() -> Any:
    """Return a Keras model of the small backbone with random weights."""
    import keras

    pixels = keras.Input((28, 28, 3))
    return keras.Model(pixels, backbones.get(_NAME, weights="none").build(pixels))


def _with_lambda() -> Any:
    """Return a network with a Lambda layer that creates the canary whenever it is called."""
    import keras

    model = _network()
    code = lambda x: (  # noqa: E731 - a function with a name would not be written into the file
        __import__("pathlib").Path(__import__("os").environ["IMGPIPE_TEST_CANARY"]).touch(),
        x,
    )[1]
    layer = keras.layers.Lambda(code, output_shape=(5, 5, 64), name="evil")
    return keras.Model(model.input, layer(model.output))


def _weights(path: Path) -> Path:
    """Write valid Keras weights to `path` and return the path; tests damage the file."""
    _network().save_weights(path)
    return path


def _archive(
    path: Path, config: Callable[[dict], Any] = lambda config: config, **more: Any
) -> Path:
    """Write a valid `.keras` archive whose configuration is changed and that has more members."""
    file = io.BytesIO()
    good = path.with_name("good.keras")
    _network().save(good)
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(file, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json":
                content = json.dumps(config(json.loads(content))).encode()
            target.writestr(name, content)
        for name, content in more.items():
            target.writestr(name, content, zipfile.ZIP_DEFLATED)
    path.write_bytes(file.getvalue())
    return path


def _append(layer: dict) -> Callable[[dict], dict]:
    """Return a function that appends `layer` to the layers of a configuration."""

    def changed(config: dict) -> dict:
        config["config"]["layers"].append(layer)
        return config

    return changed


def _refused(path: Path, canary: Path, message: str) -> None:
    """Assert that the backbone refuses the file with `message` and the canary does not exist."""
    import keras

    canary.unlink(missing_ok=True)
    backbone = backbones.get(_NAME, weights=str(path))
    with pytest.raises(UnsafeWeightsError, match=message):
        backbone.build(keras.Input((28, 28, 3)))
    assert not canary.exists()


def test_undamaged_weights_and_archives_load(tmp_path) -> None:
    import keras

    for path in (_weights(tmp_path / "a.weights.h5"), _archive(tmp_path / "a.keras")):
        backbones.get(_NAME, weights=str(path)).build(keras.Input((28, 28, 3)))


def test_a_whole_model_in_hdf5_is_refused(tmp_path, canary) -> None:
    """CVE-2025-9905: Keras ignored safe_mode for models in HDF5 files."""
    import keras

    path = tmp_path / "model.h5"
    _with_lambda().save(path)
    keras.models.load_model(path, safe_mode=False)(np.zeros((1, 28, 28, 3)))
    assert canary.exists()
    _refused(path, canary, r"is a whole model; loading one can run code.*save_weights")


def test_a_lambda_layer_in_an_archive_is_refused(tmp_path, canary) -> None:
    """CVE-2024-3660: a Lambda layer runs code when a model is loaded."""
    import keras

    path = tmp_path / "model.keras"
    _with_lambda().save(path)
    keras.models.load_model(path, safe_mode=False)(np.zeros((1, 28, 28, 3)))
    assert canary.exists()
    _refused(path, canary, r"can run code: .*evil is (Lambda|__lambda__)")


def test_an_archive_that_switches_safe_mode_off_is_refused(tmp_path, canary) -> None:
    """CVE-2025-9906: the archive called enable_unsafe_deserialization before its Lambda."""
    switch = {
        "module": "keras.config",
        "class_name": "function",
        "config": "enable_unsafe_deserialization",
        "registered_name": "enable_unsafe_deserialization",
    }
    path = _archive(tmp_path / "a.keras", _append(switch))
    _refused(path, canary, "is function enable_unsafe_deserialization")
    hidden = {"module": "keras.layers", "class_name": "Dense", "config": ["safe_mode"]}
    _refused(_archive(tmp_path / "b.keras", _append(hidden)), canary, "is safe_mode")


def test_a_layer_that_loads_a_saved_model_is_refused(tmp_path, canary) -> None:
    """CVE-2026-1462: TFSMLayer runs the graph of any folder it names."""
    layer = {
        "module": "keras.layers",
        "class_name": "TFSMLayer",
        "config": {"name": "graph", "filepath": str(tmp_path / "saved_model")},
    }
    path = _archive(tmp_path / "a.keras", _append(layer))
    _refused(path, canary, "graph is TFSMLayer")


@pytest.mark.parametrize("module", ["os", "builtins", "keras_evil", "tensorflow.io.gfile"])
def test_functions_of_other_modules_are_refused(tmp_path, canary, module: str) -> None:
    """CVE-2025-1550: the configuration named any function of any module."""
    call = {"module": module, "class_name": "system", "config": f"touch {canary}"}
    path = _archive(tmp_path / "a.keras", _append(call))
    _refused(path, canary, f"is {module}.system")


def _external_link(file: h5py.File, other: Path) -> None:
    """Replace a dataset by a link to another file."""
    del file["layers/conv2d/vars/0"]
    file["layers/conv2d/vars/0"] = h5py.ExternalLink(str(other), "layers/conv2d/vars/0")


def _soft_link(file: h5py.File, other: Path) -> None:
    """Replace a dataset by a symbolic link to another dataset of the file."""
    del file["layers/conv2d/vars/0"]
    file["layers/conv2d/vars/0"] = h5py.SoftLink("/layers/conv2d_1/vars/0")


def _virtual(file: h5py.File, other: Path) -> None:
    """Replace a dataset by a virtual dataset over another file."""
    shape = file["layers/conv2d/vars/0"].shape
    del file["layers/conv2d/vars/0"]
    layout = h5py.VirtualLayout(shape, "f4")
    layout[:] = h5py.VirtualSource(str(other), "layers/conv2d/vars/0", shape=shape)
    file["layers/conv2d/vars"].create_virtual_dataset("0", layout)


def _external_storage(file: h5py.File, other: Path) -> None:
    """Replace a dataset by one whose bytes are stored in another file."""
    shape = file["layers/conv2d/vars/0"].shape
    del file["layers/conv2d/vars/0"]
    size = 4 * int(np.prod(shape))
    file["layers/conv2d/vars"].create_dataset("0", shape, "f4", external=[(str(other), 0, size)])


def _shape_bomb(file: h5py.File, other: Path) -> None:
    """Replace a dataset by one that claims 4 TiB and holds no data."""
    del file["layers/conv2d/vars/0"]
    file["layers/conv2d/vars"].create_dataset("0", (1 << 20, 1 << 20), "f4", chunks=(64, 64))


def _packed_bomb(file: h5py.File, other: Path) -> None:
    """Replace a dataset by a compressed one."""
    shape = file["layers/conv2d/vars/0"].shape
    del file["layers/conv2d/vars/0"]
    file["layers/conv2d/vars"].create_dataset("0", shape, "f4", compression="gzip")


def _loop(file: h5py.File, other: Path) -> None:
    """Add a link that makes the tree of groups a cycle."""
    file["layers/conv2d/again"] = file["layers"]


def _text(file: h5py.File, other: Path) -> None:
    """Replace a dataset by one of text."""
    del file["layers/conv2d/vars/0"]
    file["layers/conv2d/vars"].create_dataset("0", data="cos\nsystem", dtype=h5py.string_dtype())


def _group(file: h5py.File, other: Path) -> None:
    """Replace a dataset by a group."""
    del file["layers/conv2d/vars/0"]
    file["layers/conv2d/vars"].create_group("0")


def _not_a_number(file: h5py.File, other: Path) -> None:
    """Set one value of a dataset to NaN."""
    file["layers/conv2d/vars/0"][0, 0, 0, 0] = np.nan


def _too_large(file: h5py.File, other: Path) -> None:
    """Replace a dataset by one whose float64 values overflow the float32 that the layer holds."""
    values = file["layers/conv2d/vars/0"][()].astype(np.float64)
    values.flat[:2] = 1e300
    del file["layers/conv2d/vars/0"]
    file["layers/conv2d/vars"].create_dataset("0", data=values)


def _empty(file: h5py.File, other: Path) -> None:
    """Replace a dataset by an empty one without a shape."""
    del file["layers/conv2d/vars/0"]
    file["layers/conv2d/vars"].create_dataset("0", data=h5py.Empty("f4"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_external_link, r"conv2d/vars/0: refuses a link \(ExternalLink\) to '.*other"),
        (_soft_link, r"refuses a link \(SoftLink\) to '/layers"),
        (_virtual, "conv2d/vars/0: .*Received: data of other files"),
        (_external_storage, "Received: data of other files"),
        (_shape_bomb, r"conv2d/vars/0: claims shape \(1048576, 1048576\) and holds 0 bytes"),
        (_packed_bomb, "Received: compressed data"),
        (_loop, "refuses a tree with loops"),
        (_text, "Received: values of type object"),
        (_group, "conv2d/vars/0: expected an array. Received: a Group"),
        (_not_a_number, r"conv2d/vars/0: .*Received: 1 of \d+ are NaN or infinite"),
        (_too_large, r"conv2d/vars/0: .*Received: 2 of \d+ are NaN or infinite"),
        (_empty, r"damaged file of weights"),
    ],
)
@pytest.mark.parametrize("archived", [False, True])
def test_hdf5_that_is_not_a_plain_tree_of_arrays_is_refused(
    tmp_path, canary, spoil: Callable, message: str, archived: bool
) -> None:
    """CVE-2026-1669 and similar: a file that reads other files or claims data that it lacks."""
    path, other = _weights(tmp_path / "a.weights.h5"), _weights(tmp_path / "other.weights.h5")
    with h5py.File(path, "r+") as file:
        spoil(file, other)
    if archived:
        spoilt, path = path.read_bytes(), tmp_path / "a.keras"
        good = _archive(tmp_path / "b.keras").read_bytes()
        with zipfile.ZipFile(io.BytesIO(good)) as source, zipfile.ZipFile(path, "w") as target:
            target.writestr("config.json", source.read("config.json"))
            target.writestr("model.weights.h5", spoilt)
    _refused(path, canary, message)


@pytest.mark.parametrize(
    "member", ["../canary", "/tmp/canary", "assets/../../canary", "..\\canary", "evil.py"]
)
def test_an_archive_whose_members_leave_its_folder_is_refused(
    tmp_path, canary, member: str
) -> None:
    """GHSA-hqp4-2352-xf5r: members of an archive were written outside the folder."""
    path = _archive(tmp_path / "a.keras", **{member: b"x"})
    _refused(path, canary, "Received: a member")


def test_a_zip_bomb_is_refused(tmp_path, canary) -> None:
    path = _archive(tmp_path / "a.keras", **{"assets/zeros": bytes(32 << 20)})
    _refused(path, canary, r"assets/zeros: \d+ bytes claim to unpack to 33554432")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_with_two_members_of_one_name_is_refused(tmp_path, canary) -> None:
    path = _archive(tmp_path / "a.keras", **{"config.json": b"{}"})
    _refused(path, canary, "'config.json' twice")


def test_a_configuration_that_is_nested_too_deeply_is_refused(tmp_path, canary) -> None:
    path = tmp_path / "a.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "[" * 100_000 + "]" * 100_000)
        archive.writestr("model.weights.h5", b"")
    _refused(path, canary, r"damaged \.keras archive")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_of_another_compression_method_is_refused(tmp_path, canary, method: int) -> None:
    path = tmp_path / "a.keras"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", b"")
    _refused(path, canary, rf"config.json: .*Received: compression method {method}")


def test_an_archive_is_unpacked_no_further_than_it_claims(tmp_path, canary) -> None:
    path = tmp_path / "a.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(1 << 26))
        archive.getinfo("model.weights.h5").file_size = 1000
    _refused(path, canary, r"damaged \.keras archive")


def test_an_array_in_place_of_a_layer_counts_as_a_missing_layer(tmp_path) -> None:
    import keras

    path = _weights(tmp_path / "a.weights.h5")
    with h5py.File(path, "r+") as file:
        del file["layers/conv2d"]
        file["layers"].create_dataset("conv2d", data=np.zeros(3))
    backbone = backbones.get(_NAME, weights=str(path))
    with pytest.raises(ResourceError, match="Layers that the file lacks: conv1"):
        backbone.build(keras.Input((28, 28, 3)))


def test_a_pipe_is_refused_as_weights_file(tmp_path) -> None:
    import keras

    os.mkfifo(tmp_path / "a.h5")
    backbone = backbones.get(_NAME, weights=str(tmp_path / "a.h5"))
    with pytest.raises(ResourceError, match=r"cannot read .*a\.h5: is not a regular file"):
        backbone.build(keras.Input((28, 28, 3)))


def test_a_pickle_is_refused_as_weights_file(tmp_path, canary) -> None:
    import pickle

    class Evil:
        """An object whose pickle creates the canary when it is loaded."""

        def __reduce__(self) -> tuple:
            return os.system, (f"touch {canary}",)

    path = tmp_path / "a.h5"
    path.write_bytes(pickle.dumps(Evil()))
    _refused(path, canary, "expected a file of Keras weights")


@pytest.mark.parametrize("compressed", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_archive_loads_or_raises_a_resource_error(
    tmp_path, canary, compressed: int
) -> None:
    """No other error may occur. Tries 60 archives with damage near the tables of the ZIP format."""
    import keras

    good = _archive(tmp_path / "a.keras").read_bytes()
    whole = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(good)) as source, zipfile.ZipFile(whole, "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name), compressed)
    random = np.random.default_rng(1)
    path = tmp_path / "b.keras"
    refused = 0
    for trial in range(60):
        damaged = bytearray(whole.getvalue())
        if trial % 3 == 0:
            del damaged[random.integers(len(damaged)) :]
        else:
            for place in random.integers(0, 400, 4):
                damaged[place if trial % 3 == 1 else -place - 1] ^= 1 << random.integers(8)
        path.write_bytes(damaged)
        try:
            backbones.get(_NAME, weights=str(path)).build(keras.Input((28, 28, 3)))
        except ResourceError:
            refused += 1
    assert refused > 20
    assert not canary.exists()


def test_a_damaged_weights_file_loads_or_raises_a_resource_error(tmp_path, canary) -> None:
    """No crash and no other error may occur. Tries 60 files that are cut short or altered."""
    import keras

    content = _weights(tmp_path / "a.weights.h5").read_bytes()
    random = np.random.default_rng(0)
    path = tmp_path / "b.weights.h5"
    refused = 0
    pixels = keras.Input((28, 28, 3))
    for trial in range(60):
        damaged = bytearray(content)
        if trial % 3 == 0:
            del damaged[random.integers(len(damaged)) :]
        else:  # most of the tree lies in the first and last few kilobytes
            for place in random.integers(0, 8192, 8):
                damaged[place if trial % 3 == 1 else -place - 1] ^= 1 << random.integers(8)
        path.write_bytes(damaged)
        try:
            backbones.get(_NAME, weights=str(path)).build(pixels)
        except ResourceError:
            refused += 1
    assert refused > 20
    assert not canary.exists()
