"""Tests of presets of KerasHub: how they are named, and what a person sees where one is wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import keras
import pytest

from imgpipe.models import backbones
from imgpipe.models.backbones import presets
from imgpipe.models.backbones.presets import installed, published
from imgpipe.models.errors import ConfigError, ResourceError, UnsafeWeightsError
from imgpipe.models.names import KERAS_CONFIG
from imgpipe.models.settings.model import single_blocks
from tests import python_program
from tests.models.backbones import hub_presets
from tests.network_settings import network_settings

pytestmark = pytest.mark.skipif(not installed(), reason="KerasHub is not installed (the extra hub)")


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that returns the folder of a preset of a family."""
    folder = tmp_path_factory.mktemp("presets")
    return lambda family: hub_presets.write(family, folder)


@pytest.fixture(scope="module")
def vit(preset) -> Path:
    return preset("vit")


@pytest.fixture
def copy(vit: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(vit, tmp_path / "copy"))


def _describe(file: Path, *keys: str, **changes: object) -> None:
    """Change a description in a preset, below these keys."""
    described = part = json.loads(file.read_text())
    for key in keys:
        part = part[key]
    part |= changes
    file.write_text(json.dumps(described))


def _build(name: str) -> None:
    backbone = backbones.Backbone(name)
    backbone.build(keras.Input((backbone.image_size, backbone.image_size, 3)))


def test_each_published_preset_is_of_one_class():
    assert "dinov2_small" in published()
    assert len(set(published())) == len(published())


@pytest.mark.parametrize(
    ("name", "ending"),
    [("dinov2_smal", "'dinov2_smal'; nearest: dinov2_small"), ("", "''"), ("bert_tiny_en", "")],
)
def test_a_wrong_name_of_a_preset_is_a_bad_setting(name, ending):
    message = f"published preset of images, which keras.io/keras_hub/presets lists.*{ending}"
    with pytest.raises(ConfigError, match=message):
        _ = backbones.Backbone(f"hub:{name}").image_size


def test_a_preset_is_named_without_importing_tensorflow(vit):
    code = (
        "import sys; from imgpipe.models import backbones; "
        f"backbones.Backbone('hub:{vit}'); backbones.Backbone('hub:dinov2_small'); "
        "print('tensorflow' in sys.modules, 'keras_hub' in sys.modules)"
    )
    assert python_program.printed(code).split() == ["False", "False"]


def test_the_fingerprint_covers_every_file_of_a_preset_and_its_own_copy_is_the_same(vit, copy):
    original = backbones.Backbone(f"hub:{vit}").key()
    random = backbones.Backbone(f"hub:{vit}", "none").key()
    assert backbones.Backbone(f"hub:{vit}", "none", seed=1).key() != random != original
    for name in (KERAS_CONFIG, presets.CONVERTER_FILE, presets.WEIGHTS_FILE):
        file = copy / name
        content = file.read_bytes()
        file.write_bytes(content + b" ")
        assert _after_the_name(copy) != _after_the_name(vit), name
        file.write_bytes(content)
    assert _after_the_name(copy) == _after_the_name(vit)


def _after_the_name(folder: Path) -> list[str]:
    """Return what decides the features, without the path of the folder."""
    backbone = backbones.Backbone(f"hub:{folder}")
    return backbone._weights_key(backbone.image_size)


def test_weights_are_pinned_by_their_sha256(vit):
    backbone = backbones.Backbone(f"hub:{vit}", weights_sha256="0" * 64)
    with pytest.raises(ResourceError, match="is not the expected file"):
        backbone.key()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ("no folder", ResourceError, "a folder that save_to_preset.*there is no folder"),
        ("no config", ResourceError, r"save_to_preset.*Received: .*`config\.json` doesn't exist"),
        ("no converter", ResourceError, "and for its image converter.*`image_converter.json`"),
        ("no weights", ResourceError, r"save_to_preset.*`model\.weights\.h5` doesn't exist"),
        ("another task", ConfigError, "a network of images.*Received: BertBackbone"),
        ("another format", ConfigError, "in the format of KerasHub.*from_preset.*'model_type'"),
        ("truncated config", ResourceError, "cannot read this preset.*JSONDecodeError"),
        ("truncated weights", UnsafeWeightsError, "damaged or not allowed"),
        ("other weights", ResourceError, "is not of"),
        ("no patches", ResourceError, "cannot read this preset.*Received: "),
    ],
)
def test_a_preset_that_cannot_be_used_is_explained(copy, change, error, message):
    config, weights = copy / KERAS_CONFIG, copy / presets.WEIGHTS_FILE
    if change == "no folder":
        shutil.rmtree(copy)
    elif change == "no config":
        config.unlink()
    elif change == "no converter":
        (copy / presets.CONVERTER_FILE).unlink()
    elif change == "no weights":
        weights.unlink()
    elif change == "another task":
        _describe(config, registered_name="keras_hub>BertBackbone")
    elif change == "another format":
        config.write_text(json.dumps({"model_type": "dinov2", "hidden_size": 384}))
    elif change == "truncated config":
        config.write_text(config.read_text()[:100])
    elif change == "truncated weights":
        weights.write_bytes(weights.read_bytes()[:5000])
    elif change == "other weights":
        _describe(config, "config", hidden_dim=64)
    else:
        _describe(config, "config", patch_size=[])
    with pytest.raises(error, match=message):
        _build(f"hub:{copy}")


def test_weights_that_are_cut_short_are_found_before_the_images_are_read(copy):
    weights = copy / presets.WEIGHTS_FILE
    weights.write_bytes(weights.read_bytes()[:5000])
    message = "expected a whole file.*download it again.*damaged"
    with pytest.raises(UnsafeWeightsError, match=message):
        backbones.Backbone(f"hub:{copy}").fetch(64)
    for ending in (".weights.h5", ".keras"):
        local = copy / f"own{ending}"
        local.write_bytes(weights.read_bytes())
        with pytest.raises(UnsafeWeightsError, match=message):
            backbones.Backbone("vgg16", str(local)).fetch(224)


@pytest.mark.parametrize(
    ("name", "keys"), [(presets.CONVERTER_FILE, ()), (KERAS_CONFIG, ("config", "vision_encoder"))]
)
def test_a_preset_names_no_classes_but_those_of_keras(preset, tmp_path, name, keys):
    folder = Path(shutil.copytree(preset("clip"), tmp_path / "clip"))
    evil = {"module": "os", "class_name": "system", "registered_name": "system"}
    _describe(folder / name, *keys, **evil)
    with pytest.raises(ResourceError, match=r"Could not locate class|could not be deserialized"):
        _build(f"hub:{folder}")


def test_a_size_that_a_network_does_not_take_is_refused(preset, tmp_path):
    for family, side in (
        *(("vit", 80), ("vit", 72), ("siglip", 80), ("dinov2", 72)),
        *(("dinov2", 8), ("dinov3", 72), ("dinov3", 8)),
    ):
        own = hub_presets.FAMILIES[family]
        message = (
            rf"no images of {side} pixels\. Expected: 0 for its own size, {own}; or a multiple"
        )
        with pytest.raises(ConfigError, match=message):
            backbones.Backbone(f"hub:{preset(family)}").fetch(side)
    backbones.Backbone(f"hub:{preset('dinov2')}").fetch(70)
    for family in ("vit", "dinov2"):
        broken = Path(shutil.copytree(preset(family), tmp_path / family))
        _describe(broken / KERAS_CONFIG, "config", patch_size=[])
        with pytest.raises(ResourceError, match="cannot read this preset"):
            backbones.Backbone(f"hub:{broken}").fetch(72)


def test_a_size_is_refused_before_the_weights_are_downloaded(copy):
    (copy / presets.WEIGHTS_FILE).unlink()
    with pytest.raises(ConfigError, match=r"takes no images of 80 pixels"):
        presets.preset(f"hub:{copy}").network(80, trained=True)


def test_weights_of_a_preset_are_its_own(vit):
    with pytest.raises(ConfigError, match="are in its preset"):
        backbones.Backbone(f"hub:{vit}", "other.weights.h5")


def test_without_a_network_a_download_ends_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    # A port of this machine at which nothing answers, instead of the network.
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(ResourceError, match=r"Without a network, download.*hub:\./FOLDER.*Error"):
        _ = presets.preset("hub:dinov2_small").class_token


def test_a_downloaded_preset_is_found_in_the_cache(vit, tmp_path, monkeypatch):
    # As kagglehub keeps it: the files, and beside them that each is complete.
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    variation = tmp_path / "models" / "keras" / "vit" / "keras" / "vit_small"
    shutil.copytree(vit, variation / "2")
    complete = variation / ".complete" / "2"
    complete.mkdir(parents=True)
    for file in vit.iterdir():
        (complete / f"{file.name}.complete").touch()
    backbone = backbones.Backbone("hub:kaggle://keras/vit/keras/vit_small/2")
    assert backbone.image_size == 64
    assert backbone._weights_key(64) == _after_the_name(vit)


def test_the_folds_choose_between_class_token_patches_and_both(preset, vit):
    settings = network_settings(backbone=f"hub:{vit}")
    assert settings.largest_kind == "tokens"
    assert list(single_blocks(settings.largest_kind)) == ["class_token", "average"]
    assert settings.with_one_block.largest_kind == "class_token"
    assert not settings.larger_sizes
    swin = network_settings(backbone=f"hub:{preset('swin')}")
    assert swin.largest_kind == "covariance"
