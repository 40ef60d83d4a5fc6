"""What an architecture is: how its network is made, and which weights there are for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import keras


class Choice(Protocol):
    """What was chosen of an architecture; `Backbone` is one."""

    @property
    def name(self) -> str:
        """Name of the architecture."""

    @property
    def weights(self) -> str:
        """Source of the weights: "imagenet", "none" (random ones) or the path of a local file."""

    @property
    def width(self) -> float:
        """Multiplier of the number of filters, where the architecture has one."""


@dataclass(frozen=True)
class Architecture:
    """How to make a network.

    Attributes:
      name: Its name in the settings.
      image_size: Side in pixels that it is meant for.
      source: Makes the functional model from pixels [N, H, W, 3] in 0..255 to its last feature
        map, with the chosen weights; layers may hold BatchNorm and be trainable.
      imagenet: Whether there are ImageNet weights for it.
      widths: Whether the number of its filters can be multiplied.
      packaged_sha256: Returns the SHA-256 (hex) of ImageNet weights that are installed with this
        program, after checking the file; None where Keras fetches them.
    """

    name: str
    image_size: int
    source: Callable[[Choice, tuple[int, int]], keras.Model]
    imagenet: bool = True
    widths: bool = False
    packaged_sha256: Callable[[], str] | None = None
