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

    It raises the errors of `presets.Preset.network`.
    """
    import keras

    preset = presets.preset(choice.name)
    network = preset.network(side[0], trained=choice.weights == "imagenet")
    stated = preset.converter()
    scale = np.asarray(1.0 if stated.scale is None else stated.scale, np.float64)
    offset = np.asarray(0.0 if stated.offset is None else stated.offset, np.float64)
    pixels = keras.Input((*side, 3), dtype="float32")
    normalise = keras.layers.Rescaling(
        scale.tolist(), offset.tolist(), dtype="float32", name="normalise"
    )
    return keras.Model(pixels, token_maps.outputs(network, normalise(pixels)), name="hub")
