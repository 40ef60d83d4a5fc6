"""Presets of KerasHub: networks of images by name, folder or handle, which KerasHub reads itself.

A preset is a folder that KerasHub's `save_to_preset` wrote: `config.json` describes the network,
`image_converter.json` its normalisation, and `model.weights.h5` has the weights. A backbone
names one after `hub:`, as KerasHub takes it: the name of a published preset, the path of a
folder, or a handle (`kaggle://…`, `hf://…`). Files are downloaded when they are first needed.

A class of networks that is not listed is added with its row in `KINDS`; see docs/contributing.md.
"""

from __future__ import annotations

import functools
import importlib.metadata
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypedDict, cast

import numpy as np

from imgpipe.models import names
from imgpipe.models.errors import ConfigError, ImgpipeError, ResourceError, nearest
from imgpipe.models.files import json_object
from imgpipe.models.machine.process import quick_imports
from imgpipe.models.machine.system import install_extra

if TYPE_CHECKING:
    import keras

PREFIX: Final = "hub:"
CONVERTER_FILE: Final = "image_converter.json"
WEIGHTS_FILE: Final = "model.weights.h5"

_PACKAGE: Final = "keras-hub"
_MOST_TEXT: Final = 160  # characters of the error of KerasHub; those of HTTP have many lines
_USUAL_SIZE: Final = 224  # side in pixels, where neither network nor image converter names one


class NetworkKind(NamedTuple):
    """What is known of a class of networks of KerasHub."""

    fixed: bool = False  # whether it takes images of the size for which it was built only
    class_token: bool = False  # whether a vector describes the whole image
    vision: str = ""  # the part of it that sees images, where others read texts


#: The networks of images, by their class. All others are of another task.
KINDS: Final[dict[str, NetworkKind]] = {
    "DINOV2Backbone": NetworkKind(class_token=True),
    "DINOV3Backbone": NetworkKind(class_token=True),
    "ViTBackbone": NetworkKind(fixed=True, class_token=True),
    "DeiTBackbone": NetworkKind(fixed=True, class_token=True),
    "SigLIPBackbone": NetworkKind(fixed=True, class_token=True, vision="vision_encoder"),
    "CLIPBackbone": NetworkKind(fixed=True, class_token=True, vision="vision_encoder"),
    "MetaCLIP2Backbone": NetworkKind(fixed=True, class_token=True, vision="vision_encoder"),
    "SwinTransformerBackbone": NetworkKind(),
    "MiTBackbone": NetworkKind(),
    "HGNetV2Backbone": NetworkKind(),
    "ResNetBackbone": NetworkKind(),
    "DenseNetBackbone": NetworkKind(),
    "EfficientNetBackbone": NetworkKind(),
    "MobileNetBackbone": NetworkKind(),
    "CSPNetBackbone": NetworkKind(),
}


class PresetNetwork(TypedDict, total=False):
    """What is read here of the settings of a network; there are others."""

    image_shape: list[int | None] | None  # height, width and channels
    use_class_token: bool


@dataclass(frozen=True)
class Preset:
    """A preset by what follows `hub:` in the name of a backbone: its name, folder or handle."""

    given: str

    @property
    def image_size(self) -> int:
        """Side in pixels of the images for which the network was designed.

        It raises the errors of `file`, and a ConfigError for a preset that is not one of images.
        """
        kind, config = self._kind()
        sizes = [self.converter().image_size, config.get("image_shape")]
        ordered = sizes[::-1] if kind.fixed else sizes
        return next((int(size[0]) for size in ordered if size and size[0]), _USUAL_SIZE)

    @property
    def class_token(self) -> bool:
        """Whether a vector describes the whole image. It raises the errors of `image_size`."""
        kind, config = self._kind()
        return kind.class_token and bool(config.get("use_class_token", True))

    def converter(self) -> Any:
        """Return KerasHub's image converter, which states the size and the normalisation."""
        with self._explained():
            return _keras_hub().layers.ImageConverter.from_preset(self.given)

    def network(self, side: int, trained: bool) -> keras.Model:
        """Build the network for images of this side, with the weights of the preset or random ones.

        It raises the errors of `file`, and a ConfigError if the preset is not one of images, or
        takes none of that size.
        """
        from imgpipe.models.backbones import network_copy

        kind, _ = self._kind()
        size = self.image_size
        with self._explained():
            try:
                whole = self._built(kind, size if kind.fixed else side)
            except ValueError:  # of a layer, such as one of fewer pixels than a patch
                # A preset that is broken fails at its own size, too.
                whole = self._built(kind, size)
        network = getattr(whole, kind.vision) if kind.vision else whole
        patch = int(np.max(getattr(network, "patch_size", 1)))
        if network.inputs[0].shape[1] != side or side % patch > 0:
            raise ConfigError(
                f"model.image_size: {self._about} takes no images of {side} pixels. Expected: 0 "
                f"for its own size, {size}; or a multiple of its patches, if the network has no "
                f"position embeddings of one size. Received: {side}"
            )
        if trained:  # only now, as weights may be a large download
            with self._explained():
                network_copy.load(whole, self.file(WEIGHTS_FILE))  # with the checks of all weights
        return network

    def _built(self, kind: NetworkKind, side: int) -> keras.Model:
        # The name would be a part of the names of the layers.
        given: dict[str, Any] = {"name": None}
        if not kind.vision:
            given["image_shape"] = (side, side, 3)
        return _keras_hub().models.Backbone.from_preset(self.given, load_weights=False, **given)

    def described(self) -> dict[str, object]:
        """Return the content of the files that describe the network, by their names."""
        with self._explained():
            return {
                name: json_object.read(self.file(name))
                for name in (names.KERAS_CONFIG, CONVERTER_FILE)
            }

    def file(self, name: str) -> Path:
        """Return the path of a file of the preset, after downloading it if need be.

        A ConfigError says that there is no preset of this name, and a ResourceError that KerasHub
        cannot find or download the file.
        """
        with self._explained():
            if folder_of(f"{PREFIX}{self.given}") and not Path(self.given).is_dir():
                raise FileNotFoundError(f"there is no folder {self.given}")
            if "/" not in self.given and self.given not in published():
                raise ConfigError(
                    f"{self._about}: expected the name of a published preset of images, which "
                    "keras.io/keras_hub/presets lists; hub:./FOLDER for a folder; kaggle://… or "
                    f"hf://…. Received: {self.given!r}{nearest(self.given, published())}"
                )
            from keras_hub.src.utils.preset_utils import get_file  # by which KerasHub finds it

            return Path(get_file(self.given, name))

    @property
    def _about(self) -> str:
        return f"model.backbone {PREFIX}{self.given}"

    def _kind(self) -> tuple[NetworkKind, PresetNetwork]:
        """Return what is known of the class of the network, and the settings of the network."""
        with self._explained():
            config = json_object.read(self.file(names.KERAS_CONFIG))
        registered = config.get("registered_name", sorted(config)[:8])
        name = str(registered).removeprefix("keras_hub>")
        if name not in KINDS or not isinstance(config.get("config"), dict):
            raise ConfigError(
                f"{self._about}: expected a network of images in the format of KerasHub: "
                f"{', '.join(KINDS)}. KerasHub converts presets of Transformers and timm: "
                "keras_hub.models.Backbone.from_preset(NAME).save_to_preset(FOLDER), and the same "
                f"for keras_hub.layers.ImageConverter. Received: {name}"
            )
        kind = KINDS[name]
        network = config["config"]
        if kind.vision and isinstance(network.get(kind.vision), dict):
            network = network[kind.vision].get("config", {})
        return kind, cast(PresetNetwork, network)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say what to do where KerasHub raises an error; it raises errors of many kinds."""
        try:
            yield
        except ImgpipeError:
            raise
        except Exception as error:
            text = textwrap.shorten(str(error), _MOST_TEXT, placeholder=" …")
            raise ResourceError(
                f"{self._about}: KerasHub cannot read this preset. Expected: a folder that "
                "save_to_preset of KerasHub wrote for the network and for its image converter; the "
                "name of a published preset, which keras.io/keras_hub/presets lists; kaggle://… or "
                "hf://…. The last three are downloaded once. Without a network, download the "
                'preset on another machine and name its folder: model.backbone = "hub:./FOLDER". '
                f"Received: {type(error).__name__}: {text}"
            ) from error


def preset(name: str) -> Preset:
    """Return the preset of a backbone whose name begins with `hub:`.

    It need not exist: a folder may be one that only another machine has, and a name is looked up
    when it is first needed, because KerasHub imports TensorFlow.

    Raises:
        ResourceError: KerasHub is not installed.
    """
    if not installed():
        raise ResourceError(
            f"model.backbone {name}: the package keras-hub is not installed. Install it "
            f"with: {install_extra('hub')}"
        )
    return Preset(name.removeprefix(PREFIX))


def installed() -> str:
    """Return the version of KerasHub, or "" if it is not installed."""
    package = next(iter(importlib.metadata.distributions(name=_PACKAGE)), None)
    return package.version if package else ""


@functools.cache
def published() -> list[str]:
    """Return the names of the published presets of images, after importing KerasHub."""
    return [name for kind in KINDS for name in getattr(_keras_hub().models, kind).presets]


def folder_of(name: str) -> str:
    """Return the folder that the name of a backbone names; "" if it names none.

    What contains a slash is a path, unless it is a handle.
    """
    given = name.removeprefix(PREFIX)
    is_path = name.startswith(PREFIX) and "/" in given and "://" not in given
    return given if is_path else ""


def of_hub(layer: object) -> bool:
    """Return whether the class of a layer is one of KerasHub."""
    return type(layer).__module__.startswith("keras_hub.")


def _keras_hub() -> Any:
    with quick_imports():
        import keras_hub
    return keras_hub
