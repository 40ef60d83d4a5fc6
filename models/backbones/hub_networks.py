"""The networks of images of KerasHub by class, and the presets that KerasHub publishes of them.

A class that is not listed is added with its row in `KINDS`, and with a function in `token_maps` if
it answers with tokens; see docs/contributing.md.
"""

from __future__ import annotations

import functools
import importlib.metadata
from typing import Final, NamedTuple

from imgpipe.models.machine.process import quick_imports

_PACKAGE: Final = "keras-hub"
_UNKNOWN: Final = "see its page"
_APACHE: Final = "Apache-2.0"


class NetworkKind(NamedTuple):
    """What is known of a class of networks of KerasHub."""

    #: Licence of the published weights as their publishers state it: in the repository of the
    #: network, or of ViT and HGNetV2 on Hugging Face.
    licence: str = _UNKNOWN
    fixed: bool = False  # whether it takes images of one size only
    class_token: bool = False  # whether a vector describes the whole image
    vision: str = ""  # the part of it that sees images, where others read texts


#: The networks of images, by their class. All others are of another task.
KINDS: Final[dict[str, NetworkKind]] = {
    "DINOV2Backbone": NetworkKind(_APACHE, class_token=True),
    "DINOV3Backbone": NetworkKind("DINOv3 License", class_token=True),
    "ViTBackbone": NetworkKind(_APACHE, fixed=True, class_token=True),
    "DeiTBackbone": NetworkKind(_APACHE, fixed=True, class_token=True),
    "SigLIPBackbone": NetworkKind(_APACHE, fixed=True, class_token=True, vision="vision_encoder"),
    "CLIPBackbone": NetworkKind("MIT", fixed=True, class_token=True, vision="vision_encoder"),
    "MetaCLIP2Backbone": NetworkKind(
        "CC-BY-NC-4.0", fixed=True, class_token=True, vision="vision_encoder"
    ),
    "SwinTransformerBackbone": NetworkKind("MIT", fixed=True),
    "MiTBackbone": NetworkKind("NVIDIA, not commercial"),
    "HGNetV2Backbone": NetworkKind(_APACHE),
    "ResNetBackbone": NetworkKind(),
    "DenseNetBackbone": NetworkKind(),
    "EfficientNetBackbone": NetworkKind(),
    "MobileNetBackbone": NetworkKind(),
    "CSPNetBackbone": NetworkKind(),
}
#: Published presets with another licence than the others of their class, by their first word.
_OTHER_LICENCES: Final = {"medsiglip": "Health AI Developer Foundations"}


class PublishedPreset(NamedTuple):
    """A preset that KerasHub publishes under a name."""

    name: str
    handle: str  # from which its files are downloaded
    parameters: int  # of the whole network, which may read texts, too
    licence: str  # of the weights


def installed() -> str:
    """Return the version of KerasHub, or "" if it is not installed."""
    package = next(iter(importlib.metadata.distributions(name=_PACKAGE)), None)
    return package.version if package else ""


@functools.cache
def published() -> dict[str, PublishedPreset]:
    """Return the published presets of images by name, after importing KerasHub and TensorFlow."""
    with quick_imports():
        import keras_hub
    presets = {}
    for class_name, kind in KINDS.items():
        for name, described in getattr(keras_hub.models, class_name).presets.items():
            licence = _OTHER_LICENCES.get(name.split("_")[0], kind.licence)
            parameters = int(described["metadata"]["params"])
            presets[name] = PublishedPreset(name, described["kaggle_handle"], parameters, licence)
    return presets
