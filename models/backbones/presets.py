"""Presets of KerasHub: names, folders and handles, and what the files of a preset say.

A preset is a folder that KerasHub's `save_to_preset` wrote: `config.json` describes the network,
`image_converter.json` its normalisation, and `model.weights.h5` has the weights. A backbone
names one after `hub:`, as KerasHub takes it: the name of a published preset, the path of a
folder, or a handle (`kaggle://…`, `hf://…`). Files are downloaded when they are first needed.

KerasHub itself imports TensorFlow, so that the files of a preset are read here: the size of its
images is known before, and nothing is loaded but networks of KerasHub and plain weights. Only the
list of published names needs the import; see `hub_networks`.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, TypedDict, cast

from imgpipe.models.backbones.hub_networks import KINDS, NetworkKind, installed, published
from imgpipe.models.errors import ConfigError, ResourceError, nearest
from imgpipe.models.files import json_object
from imgpipe.models.machine import progress
from imgpipe.models.machine.packages import install_extra
from imgpipe.models.names.model_names import KERAS_CONFIG

PREFIX: Final = "hub:"
CONVERTER_FILE: Final = "image_converter.json"
WEIGHTS_FILE: Final = "model.weights.h5"
_SHARDED_FILE: Final = "model.weights.json"  # lists the files of weights of more than 10 GB

_HANDLE: Final = re.compile(r"(kaggle|hf)://\S+")
_REGISTERED: Final = re.compile(r"keras_hub>(\w+)")  # how Keras names a class of KerasHub
_MOST_TEXT: Final = 120  # characters of the error of a download; those of HTTP have many lines
_USUAL_SIZE: Final = 224  # side in pixels, where neither network nor image converter names one


class SerialisedSettings(TypedDict, total=False):
    """What is read of the settings of a network or of an image converter; there are others."""

    image_shape: list[int | None]  # height, width and channels of the images of a network
    patch_size: int | list[int]  # side in pixels, or height and width
    use_class_token: bool
    image_size: list[int] | None  # height and width of the images of a converter
    height: int  # the same, as earlier versions wrote it
    scale: float | list[float] | None  # by which pixels are multiplied
    offset: float | list[float] | None  # which is then added
    dtype: object
    name: str


class SerialisedObject(TypedDict):
    """A network or an image converter, as Keras serialised it."""

    registered_name: str  # by which Keras finds the class
    config: SerialisedSettings


class PresetFacts(NamedTuple):
    """What the files of a preset say about its network."""

    network: SerialisedObject  # the network that sees images, as Keras serialised it
    converter: SerialisedObject  # the image converter, likewise
    kind: NetworkKind
    image_size: int  # side in pixels of the images for which it was designed
    class_token: bool  # whether a vector describes the whole image
    patch: int  # side in pixels of a patch, of which a side of an image is a multiple; or 1


@dataclass(frozen=True)
class Preset:
    """A preset by its name, its folder or its handle.

    Attributes:
        given: What follows `hub:` in the name of a backbone.
    """

    given: str

    @property
    def folder(self) -> Path | None:
        """The folder of the preset, if it was given as one; it need not exist."""
        path = folder_of(PREFIX + self.given)
        return Path(path) if path else None

    def facts(self) -> PresetFacts:
        """Read what the preset says of itself, after downloading these two files if need be.

        Raises:
            ConfigError: It is no preset of KerasHub, or one of another task.
            ResourceError: A file is missing, damaged, or cannot be downloaded.
        """
        config = self._read(KERAS_CONFIG)
        name = self._kind_name(config)
        kind = KINDS[name]
        converter = self._read(CONVERTER_FILE)
        try:
            parts = cast(Mapping[str, SerialisedObject], config["config"])
            network = parts[kind.vision] if kind.vision else config
            for described in (network, converter):
                # By this name Keras finds the class, and by nothing else that the file says.
                if not _REGISTERED.fullmatch(described["registered_name"]):
                    raise ValueError(f"{described['registered_name']!r} is no class of KerasHub")
            size = _image_size(network["config"], converter["config"], kind)
            patch = _patch(network["config"])
            class_token = kind.class_token and bool(network["config"].get("use_class_token", True))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise ResourceError(
                f"{self._about}: its {KERAS_CONFIG} or {CONVERTER_FILE} is damaged "
                f"({type(error).__name__}: {error}). Save or download the preset again"
            ) from error
        return PresetFacts(network, converter, kind, size, class_token, patch)

    def summary(self) -> str:
        """Describe the network and its normalisation in a line.

        Raises:
            ConfigError: See `facts`.
            ResourceError: See `facts`.
        """
        facts = self.facts()
        stated = facts.converter["config"]
        kind = facts.network["registered_name"].partition(">")[2]
        megabytes = self.weights().stat().st_size / 1e6
        scale = _rounded(stated.get("scale"))
        offset = _rounded(stated.get("offset"))
        return (
            f"{PREFIX}{self.given}: {kind}, {megabytes:.0f} MB, images of {facts.image_size} "
            f"pixels, normalised by its image converter (scale {scale}, offset {offset})"
        )

    def described(self) -> dict[str, SerialisedObject]:
        """Return the content of the files that describe the network, by their names."""
        return {name: self._read(name) for name in (KERAS_CONFIG, CONVERTER_FILE)}

    def check_size(self, side: int) -> None:
        """Refuse a size of images that the network does not take.

        Raises:
            ConfigError: The network takes images of one size, or multiples of a patch.
        """
        facts = self.facts()
        if facts.kind.fixed and side != facts.image_size:
            raise ConfigError(
                f"model.image_size: {self._about} has position embeddings of one size. Expected: "
                f"{facts.image_size}, or 0. Received: {side}"
            )
        if side % facts.patch:
            lower = side // facts.patch * facts.patch
            raise ConfigError(
                f"model.image_size: {self._about} divides images into patches of {facts.patch} "
                f"pixels. Expected: a multiple, such as {lower} or {lower + facts.patch}. "
                f"Received: {side}"
            )

    def weights(self) -> Path:
        """Return the file of the weights, after downloading it if need be.

        Raises:
            ResourceError: It is missing or cannot be downloaded.
        """
        return self.file(WEIGHTS_FILE)

    def file(self, name: str) -> Path:
        """Return the path of a file of the preset, after downloading it if need be.

        Raises:
            ConfigError: There is no such preset.
            ResourceError: The file is missing or cannot be downloaded.
        """
        if self.folder is None:
            return _downloaded(self._handle, name, self._about)
        path = self.folder / name
        if path.is_file():
            return path
        if not self.folder.is_dir():
            raise ResourceError(
                f"{self._about}: there is no folder {self.folder}. Expected a folder that "
                "save_to_preset of KerasHub wrote, or the name of a published preset, without a "
                "slash: imgpipe doctor --presets"
            )
        content = ", ".join(sorted(child.name for child in self.folder.iterdir())[:8]) or "nothing"
        if name == CONVERTER_FILE:
            advice = (
                "It states the normalisation, which would be a guess without it. Save the image "
                "converter, too: converter.save_to_preset(FOLDER)"
            )
        elif (self.folder / _SHARDED_FILE).is_file():
            advice = "Weights in several files are not supported. Choose a smaller preset"
        else:
            advice = "Expected a folder that save_to_preset of KerasHub wrote"
        raise ResourceError(
            f"{self._about}: there is no {name} in {self.folder}. {advice}. Received: {content}"
        )

    def require_known(self) -> None:
        """Refuse a name that no published preset of images has.

        Raises:
            ConfigError: It is such a name.
        """
        if self.folder is not None or _HANDLE.fullmatch(self.given) or self.given in published():
            return
        presets = published()
        raise ConfigError(
            f"unknown preset. Expected: {PREFIX} and the name of one of {len(presets)} published "
            "presets, which `imgpipe doctor --presets` lists; a folder, such as hub:./FOLDER; "
            f"kaggle://… or hf://…. Received: {PREFIX}{self.given}{nearest(self.given, presets)}"
        )

    @property
    def _about(self) -> str:
        return f"model.backbone {PREFIX}{self.given}"

    @property
    def _handle(self) -> str:
        self.require_known()
        return self.given if _HANDLE.fullmatch(self.given) else published()[self.given].handle

    def _read(self, name: str) -> SerialisedObject:
        path = self.file(name)
        try:
            return cast(SerialisedObject, json_object.read(path))
        except (OSError, ValueError) as error:
            raise ResourceError(
                f"{self._about}: {path} cannot be read ({error}). Save or download the preset again"
            ) from error

    def _kind_name(self, config: SerialisedObject) -> str:
        """Return the class of the network, after checking that it is one of images."""
        registered = _REGISTERED.fullmatch(str(config.get("registered_name")))
        if registered is None:
            advice = (
                "KerasHub converts others: keras_hub.models.Backbone.from_preset(NAME)"
                ".save_to_preset(FOLDER), and the same for keras_hub.layers.ImageConverter"
            )
            raise ConfigError(
                f"{self._about} is not in the format of KerasHub. Expected: {KERAS_CONFIG} with "
                f"the class of a network of KerasHub. {advice}. Received: {sorted(config)[:8]}"
            )
        if registered[1] not in KINDS:
            raise ConfigError(
                f"{self._about} is a preset of another task. Expected a network of images: "
                f"{', '.join(KINDS)}. Received: {registered[1]}"
            )
        return registered[1]


def preset(name: str) -> Preset:
    """Return the preset that a backbone names.

    It need not exist: a folder may be one that only another machine has, and a name is looked up
    when it is first needed, because KerasHub imports TensorFlow.

    Args:
        name: Name of a backbone that begins with `hub:`.

    Raises:
        ResourceError: KerasHub is not installed.
    """
    given = name.removeprefix(PREFIX)
    if not installed():
        raise ResourceError(
            f"model.backbone {name}: the package keras-hub is not installed. Install it "
            f"with: {install_extra('hub')}"
        )
    return Preset(given)


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


def _rounded(values: object) -> str:
    """Write the numbers of a normalisation, one for all channels or one for each."""
    numbers = values if isinstance(values, list) else [values]
    texts = [f"{number:.3g}" if isinstance(number, float | int) else "none" for number in numbers]
    return ", ".join(texts)


def _image_size(
    network: SerialisedSettings, converter: SerialisedSettings, kind: NetworkKind
) -> int:
    """Return the side for which a network was designed, from both configurations."""
    height = converter.get("height", 0)
    shown = (converter.get("image_size") or [height])[0]
    built = (network.get("image_shape") or [None])[0]
    sizes = (built, shown) if kind.fixed else (shown, built)
    return int(sizes[0] or sizes[1] or _USUAL_SIZE)


def _patch(network: SerialisedSettings) -> int:
    patch = network.get("patch_size", 1)
    return int(patch[0] if isinstance(patch, list | tuple) else patch)


def _downloaded(handle: str, name: str, about: str) -> Path:
    """Return a file of a preset from the cache, in which it is put first if it is missing.

    These are the calls that KerasHub makes, so that both use the same cache.
    """
    scheme, _, place = handle.partition("://")
    progress.say(f"{about}: {name} from {handle}, or the cache")
    try:
        if scheme == "kaggle":
            import kagglehub

            return Path(kagglehub.model_download(place, path=name))
        import huggingface_hub

        return Path(huggingface_hub.hf_hub_download(repo_id=place, filename=name))
    except Exception as error:  # both raise errors of many kinds, also those of their HTTP clients
        text = textwrap.shorten(str(error), _MOST_TEXT, placeholder=" …")
        raise ResourceError(
            f"{about}: {name} is not on this machine and cannot be downloaded from {handle}. "
            "Connect the machine to the network, accept the licence where the preset asks for it, "
            "or download the preset on another machine and name its folder: "
            f'model.backbone = "hub:./FOLDER". Received: {type(error).__name__}: {text}'
        ) from error
