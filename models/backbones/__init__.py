"""The backbones there are, by name. Adding one is one new module and one line in the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from models.backbones import efficientnet_lite0
from models.errors import ConfigError

if TYPE_CHECKING:
    from keras import KerasTensor


@dataclass(frozen=True)
class Backbone:
    """A network with trained weights that turns pixels into a feature map.

    `build` takes a KerasTensor [N, H, W, 3] of float pixels 0..255, normalises it itself and
    returns the feature map [N, h, w, feature_dim], every layer frozen. `image_size` (pixels) is
    the size the weights were trained at; others work. Neither the table nor `weights_sha256`
    imports TensorFlow.
    """

    name: str
    image_size: int
    feature_dim: int
    weights_sha256: Callable[[], str]
    build: Callable[[KerasTensor], KerasTensor]


_BACKBONES: Final = {
    backbone.name: backbone
    for backbone in (
        Backbone(
            efficientnet_lite0.NAME,
            efficientnet_lite0.IMAGE_SIZE,
            efficientnet_lite0.FEATURE_DIM,
            efficientnet_lite0.weights_sha256,
            efficientnet_lite0.build,
        ),
    )
}


def names() -> tuple[str, ...]:
    """Names that `get` knows."""
    return tuple(_BACKBONES)


def get(name: str) -> Backbone:
    """The backbone of that name.

    Raises:
        ConfigError: There is none.
    """
    try:
        return _BACKBONES[name]
    except KeyError:
        known = ", ".join(_BACKBONES)
        raise ConfigError(
            f"unknown backbone. Expected one of: {known}. Received: {name!r}"
        ) from None
