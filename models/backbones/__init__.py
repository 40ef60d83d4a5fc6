"""Backbones by name. A module in `architectures/` adds one."""

from __future__ import annotations

import re
from typing import Final

from imgpipe.models.backbones import registry
from imgpipe.models.backbones.backbone import Backbone
from imgpipe.models.errors import ConfigError, nearest

__all__ = ["Backbone", "get"]

_NAMED: Final = ("imagenet", "none")  # weights that are not a file
_FILE_ENDINGS: Final = (".h5", ".keras")
_SHA256: Final = re.compile("[0-9a-fA-F]{64}")


def get(
    name: str,
    weights: str = "imagenet",
    weights_sha256: str = "",
    cut: str = "",
    width: float = 1.0,
    seed: int = 0,
) -> Backbone:
    """Return the backbone with a name, after checking the arguments.

    Args:
        name: Name of the architecture, one of `names` or a name of a pattern.
        weights: "imagenet", "none" (random weights) or the path of a local weights file. Of a
            preset, "imagenet" means its own weights.
        weights_sha256: Expected SHA-256 (hex) of a local weights file, or of the weights of a
            preset; "" skips the check.
        cut: Layer or block whose output is the feature map; "" is the last one.
        width: Multiplier of the number of filters, where the architecture has one.
        seed: Seed of random weights.

    Raises:
        ConfigError: There is no such architecture, or it does not support these values.
    """
    architecture = registry.architecture(name)
    preset = architecture.preset
    if preset is not None and weights not in _NAMED:
        raise ConfigError(
            f'weights: those of {name} are in its preset. Expected "imagenet", which means these, '
            f'or "none". Received: {weights!r}'
        )
    if weights not in _NAMED and not weights.endswith(_FILE_ENDINGS):
        raise ConfigError(
            'weights: expected "imagenet", "none" or the path of a file (.weights.h5, .h5, '
            f".keras). Received: {weights!r}{nearest(weights, _NAMED)}"
        )
    if weights == "imagenet" and not architecture.imagenet:
        raise ConfigError(
            f'weights: {name} has no ImageNet weights. Expected: weights = "none", to train it '
            "from scratch, or the path of a file. Received: 'imagenet'"
        )
    is_file = weights not in _NAMED or (preset is not None and weights != "none")
    if weights_sha256 and not (is_file and _SHA256.fullmatch(weights_sha256)):
        raise ConfigError(
            "weights_sha256: expected 64 hexadecimal digits, beside weights that are a file. "
            f"Received: {weights_sha256!r} beside {weights!r}"
        )
    if width <= 0 or (width != 1.0 and not architecture.widths):
        raise ConfigError(
            f"width: expected {'a number over 0' if architecture.widths else '1.0'} for {name}. "
            f"Received: {width!r}"
        )
    return Backbone(name, weights, float(width), weights_sha256, cut, seed)
