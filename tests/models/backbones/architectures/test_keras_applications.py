"""Tests of the files from which Keras reads the ImageNet weights of its networks."""

from pathlib import Path

import keras
import pytest

from imgpipe.models import backbones
from imgpipe.models.backbones import registry
from imgpipe.models.errors import ResourceError

#: One network for each form of the names of files, and the others in the slow tier.
_FORMS = (
    *("mobilenet", "mobilenet_v2", "mobilenet_v3_small", "vgg16", "resnet50_v2"),
    *("efficientnet_b0", "efficientnet_v2_b0", "convnext_tiny"),
)
_OTHERS = [
    name
    for name in registry.names()
    if registry.architecture(name).downloaded_to is not None and name not in _FORMS
]


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """Return the folder of Keras' cache, which is empty."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    "name", [*_FORMS, *(pytest.param(name, marks=pytest.mark.slow) for name in _OTHERS)]
)
def test_the_key_reads_the_file_that_keras_reads(name, cache, monkeypatch):
    asked = []

    def get_file(file_name, *args, **kwargs):
        asked.append(file_name)
        raise OSError("not here")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
    downloaded_to = registry.architecture(name).downloaded_to
    for size in (96, 128) if name.startswith("mobilenet") else (96,):
        with pytest.raises(ResourceError, match="are not on this machine"):
            backbones.Backbone(name).fetch(size)
        assert downloaded_to(size) == cache / asked.pop()


def test_other_bytes_of_the_weights_are_another_key(cache):
    mobile = backbones.Backbone("mobilenet_v2")
    file = cache / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_96_no_top.h5"
    missing = mobile.key(96)
    file.write_bytes(b"one file")
    first = mobile.key(96)
    assert mobile.key(224) == backbones.Backbone("mobilenet_v2").key()
    file.write_bytes(b"another file")
    assert len({missing, first, mobile.key(96)}) == 3
    assert mobile.key(224) != first


def _of_another_network(file: Path) -> None:
    from keras.src.legacy.saving import legacy_h5_format

    small = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Conv2D(2, 3)])
    legacy_h5_format.save_model_to_hdf5(small, str(file))


def _without_layers(file: Path) -> None:
    import h5py

    with h5py.File(file, "w") as content:
        content["numbers"] = [1, 2]


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy")
@pytest.mark.parametrize(
    "write",
    [
        lambda file: file.write_bytes(b"\x89HDF\r\n\x1a\n and then nothing"),
        lambda file: file.write_text("<html>Not found</html>"),
        _without_layers,
        _of_another_network,
    ],
)
def test_a_damaged_file_is_named_with_what_to_do(write, cache):
    file = cache / "mobilenet_1_0_128_tf_no_top.h5"
    write(file)
    message = rf"{file} is damaged or not the file of .* Delete it, so that it is downloaded again"
    with pytest.raises(ResourceError, match=message):
        backbones.Backbone("mobilenet").fetch(128)
