"""Architectures: how a network is built and which weights exist for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import keras

MAX_BYTES: Final = 4 << 30  # of a weights file; the largest of keras.applications has 1.4 GB


class Choice(Protocol):
    """The options chosen for an architecture; `Backbone` is one such choice, and describes them."""

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
    """Description of an architecture and of how to build it.

    Attributes:
        name: Name of the architecture in the settings.
        image_size: Side in pixels of the images for which it was designed.
        source: Builds the functional model from pixels [N, H, W, 3], 0..255, to its last feature
            map, with the chosen weights. Its layers may include BatchNorm and may be trainable.
        folded: Builds the network with ImageNet weights on pixels [N, H, W, 3], with the given
            value of `trainable` of every layer, and returns its last feature map. It has no
            BatchNorm to fold, so that it need not be copied. With None, `source` is copied.
        imagenet: Whether ImageNet weights exist for it.
        widths: Whether its number of filters can be multiplied.
        weights_by_size: Whether it has other ImageNet weights for some sizes of the images.
        package: Name of the package that holds its ImageNet weights; "" when Keras downloads them.
        packaged_sha256: Checks the weights in this package and returns their SHA-256 (hex); None
            when there is no package.
        code_sha256: Returns the SHA-256 (hex) of code outside this package that builds the network;
            None when there is none.
    """

    name: str
    image_size: int
    source: Callable[[Choice, tuple[int, int]], keras.Model]
    folded: Callable[[keras.KerasTensor, bool], keras.KerasTensor] | None = None
    imagenet: bool = True
    widths: bool = False
    weights_by_size: bool = False
    package: str = ""
    packaged_sha256: Callable[[], str] | None = None
    code_sha256: Callable[[], str] | None = None
