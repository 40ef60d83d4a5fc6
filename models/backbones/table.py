"""The table of architectures: how to make each network, and the size it is meant for."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from imgpipe.models.backbones import course_cnns, efficientnet_lite0, keras_applications
from imgpipe.models.errors import ConfigError

if TYPE_CHECKING:
    import keras

    from imgpipe.models.backbones.backbone import Backbone

    Source = Callable[[Backbone, tuple[int, int]], keras.Model]


@dataclass(frozen=True)
class Architecture:
    """How to make a network.

    Attributes:
      name: its name.
      image_size: side in pixels that it is meant for.
      source: makes the functional model, pixels [N, H, W, 3] in 0..255 to its last feature map,
        with the weights that were chosen; layers may hold BatchNorm and be trainable.
      imagenet: whether there are ImageNet weights of it.
      widths: whether the number of its filters can be multiplied.
    """

    name: str
    image_size: int
    source: Source
    imagenet: bool = True
    widths: bool = False


def _course(name: str, image_size: int) -> Architecture:
    return Architecture(
        name, image_size, lambda choice, side: course_cnns.source(name, side), imagenet=False
    )


_ARCHITECTURES: Final = {
    architecture.name: architecture
    for architecture in (
        Architecture(
            efficientnet_lite0.NAME, efficientnet_lite0.IMAGE_SIZE, efficientnet_lite0.source
        ),
        *(
            Architecture(
                name, application.image_size, keras_applications.source, widths=application.widths
            )
            for name, application in keras_applications.APPLICATIONS.items()
        ),
        *(_course(name, size) for name, size in course_cnns.IMAGE_SIZES.items()),
    )
}


def names() -> tuple[str, ...]:
    """Names of the architectures; `architecture` also knows others of the course's kind."""
    return tuple(_ARCHITECTURES)


def architecture(name: str) -> Architecture:
    """The architecture of that name.

    Raises:
      ConfigError: there is none.
    """
    if name in _ARCHITECTURES:
        return _ARCHITECTURES[name]
    if course_cnns.is_name(name):
        return _course(name, course_cnns.DEFAULT_SIZE)
    nearest = difflib.get_close_matches(name, _ARCHITECTURES, 1)
    raise ConfigError(
        f"unknown backbone. Expected one of: {', '.join(_ARCHITECTURES)}. Received: {name!r}"
        + (f"; nearest: {nearest[0]}" if nearest else "")
    )
