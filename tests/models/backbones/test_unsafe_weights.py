"""Tests that weight files shaped like known exploits are refused, and that no code in them runs.

The file `canary` is what the code of an exploit would write.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from imgpipe.models import backbones
from imgpipe.models.errors import ResourceError

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


def _load(path: Path) -> None:
    import keras

    backbones.get(_NAME, weights=str(path)).build(keras.Input((28, 28, 3)))


def _refused(path: Path, canary: Path, message: str) -> None:
    """Assert that the backbone refuses the file with `message` and the canary does not exist."""
    with pytest.raises(ResourceError, match=message):
        _load(path)
    assert not canary.exists()


def test_the_code_in_an_archive_is_not_run(tmp_path, canary) -> None:
    import keras

    model = _network()
    code = lambda x: (  # noqa: E731 - a function with a name would not be written into the file
        __import__("pathlib").Path(__import__("os").environ["IMGPIPE_TEST_CANARY"]).touch(),
        x,
    )[1]
    layer = keras.layers.Lambda(code, output_shape=(5, 5, 64), name="evil")
    evil = keras.Model(model.input, layer(model.output))
    evil(np.zeros((1, 28, 28, 3), np.float32))  # the code works
    assert canary.exists()
    canary.unlink()
    evil.save(tmp_path / "a.keras")
    _load(tmp_path / "a.keras")
    assert not canary.exists()


def test_a_whole_model_in_hdf5_is_refused(tmp_path, canary) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["model_config"] = "{}"
    _refused(tmp_path / "a.h5", canary, r"is a whole model.*save_weights\('NAME.weights.h5'\)")


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


def _text(file: h5py.File, other: Path) -> None:
    """Replace a dataset by one of text."""
    del file["layers/conv2d/vars/0"]
    file["layers/conv2d/vars"].create_dataset("0", data="cos\nsystem", dtype=h5py.string_dtype())


def _not_a_number(file: h5py.File, other: Path) -> None:
    """Set one value of a dataset to NaN."""
    file["layers/conv2d/vars/0"][0, 0, 0, 0] = np.nan


def _too_large(file: h5py.File, other: Path) -> None:
    """Replace a dataset by one whose float64 values overflow the float32 that the layer holds."""
    values = file["layers/conv2d/vars/0"][()].astype(np.float64)
    values.flat[:2] = 1e300
    del file["layers/conv2d/vars/0"]
    file["layers/conv2d/vars"].create_dataset("0", data=values)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_external_link, "Not allowed: .*ExternalLink"),
        (_soft_link, "Not allowed: .*SoftLink"),
        (_virtual, "Not allowed: .*virtual"),
        (_external_storage, "Not allowed: .*external"),
        (_shape_bomb, "declares 4.00 TB"),
        (_text, "could not convert string to float"),
        (_not_a_number, "conv1: expected finite numbers"),
        (_too_large, "overflow|expected finite numbers"),
    ],
)
def test_hdf5_that_is_not_a_plain_tree_of_finite_numbers_is_refused(
    tmp_path, canary, spoil: Callable, message: str
) -> None:
    """CVE-2026-1669 and similar: a file that reads other files or claims data that it lacks."""
    path, other = tmp_path / "a.weights.h5", tmp_path / "other.weights.h5"
    for file in (path, other):
        _network().save_weights(file)
    with h5py.File(path, "r+") as file:
        spoil(file, other)
    _refused(path, canary, message)


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


@pytest.mark.parametrize("name", ["a.weights.h5", "a.keras"])
def test_a_damaged_file_loads_or_raises_a_resource_error(tmp_path, name: str) -> None:
    """No crash and no other error may occur. Tries 30 files that are cut short or altered."""
    good = tmp_path / name
    model = _network()
    (model.save if name.endswith(".keras") else model.save_weights)(good)
    content = good.read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for trial in range(30):
        damaged = bytearray(content)
        if trial % 3 == 0:
            del damaged[random.integers(len(damaged)) :]
        else:  # most of the tree lies in the first and last few kilobytes
            for place in random.integers(0, 8192, 8):
                damaged[place if trial % 3 == 1 else -place - 1] ^= 1 << random.integers(8)
        good.write_bytes(damaged)
        try:
            _load(good)
        except ResourceError:
            refused += 1
    assert refused > 10
