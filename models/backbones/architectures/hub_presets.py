"""Networks of KerasHub: DINOv2 and DINOv3, SigLIP, CLIP, ViT, Swin and others, by a preset.

`hub:` precedes the name of a preset, its folder or its handle; see `presets`. Layers and weights
are those of KerasHub. This module adds the normalisation that the preset's own image converter
states, and makes feature maps of tokens; see `token_maps`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from imgpipe.models.backbones import presets, token_maps
from imgpipe.models.backbones.registry import Architecture, BackboneChoice
from imgpipe.models.errors import ConfigError

if TYPE_CHECKING:
    import keras

ARCHITECTURES: Final[tuple[Architecture, ...]] = ()


def named(name: str) -> Architecture | None:
    """Return the architecture for a name such as `hub:dinov2_small`; None for other names."""
    if not name.startswith(presets.PREFIX):
        return None
    return Architecture(name, 0, build, weights_by_size=True, preset=presets.preset(name))


def build(choice: BackboneChoice, side: tuple[int, int]) -> keras.Model:
    """Build the network of a preset, with its weights or random ones; see `Architecture`.

    Raises:
        ConfigError: It is no preset of images, or its network does not take images of that size.
        ResourceError: A file is missing or damaged.
    """
    import keras
    import keras_hub  # noqa: F401 - registers the classes that a preset names

    preset = presets.preset(choice.name)
    preset.check_size(side[0])
    facts = preset.facts()
    network = _network(facts, side, choice.name)
    if choice.weights == "imagenet":
        _load(network, preset, facts.kind)
    pixels = keras.Input((*side, 3), dtype="float32")
    shown = _normalised(pixels, facts.converter, choice.name)
    return keras.Model(pixels, token_maps.outputs(network, shown), name="hub")


def _network(facts: presets.PresetFacts, side: tuple[int, int], name: str) -> keras.Model:
    """Build the network that sees images, with random weights."""
    import keras

    config = {**facts.network["config"], "image_shape": [*side, 3]}
    config.pop("dtype", None)  # the policy of the run decides
    config.pop("name", None)  # it would be part of the names of the layers
    try:
        return keras.saving.deserialize_keras_object({**facts.network, "config": config})
    except Exception as error:  # KerasHub and Keras raise errors of many kinds for a configuration
        text = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"model.backbone {name}: its network cannot be built for images of {side[0]} pixels "
            f"({type(error).__name__}: {text})"
        ) from error


def _load(network: keras.Model, preset: presets.Preset, kind: presets.NetworkKind) -> None:
    """Load the weights of a preset; of a network that also reads texts, only those for images."""
    import keras

    from imgpipe.models.backbones import weights_file

    holder = network
    if kind.vision:  # in the file it is a layer of the whole network
        images = keras.Input(network.image_shape)
        holder = keras.Model(images, network({"images": images}), name=network.name)
    weights_file.load(holder, preset.weights())


def _normalised(
    pixels: keras.KerasTensor, converter: presets.SerialisedObject, name: str
) -> keras.KerasTensor:
    """Return pixels as the image converter of a preset normalises them, always in float32."""
    import keras

    try:
        # KerasHub's own class also understands the names that earlier versions wrote.
        stated = keras.saving.deserialize_keras_object(converter)
        scale = np.asarray(1.0 if stated.scale is None else stated.scale, np.float64)
        offset = np.asarray(0.0 if stated.offset is None else stated.offset, np.float64)
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"model.backbone {name}: its {presets.CONVERTER_FILE} states no normalisation that can "
            f"be read ({type(error).__name__}: {text}). Save the image converter again"
        ) from error
    layer = keras.layers.Rescaling(
        scale.tolist(), offset.tolist(), dtype="float32", name="normalise"
    )
    return layer(pixels)
