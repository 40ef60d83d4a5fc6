"""The networks of the course: 3×3 convolutions with ReLU, each followed by 2×2 max-pooling.

Their names list their filters: `conv_16_32_64` and so on; `_grey` first converts the image to
one grey channel. They are trained from scratch, as in "Convolutional Neural Networks in
TensorFlow", weeks 1 to 4.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from imgpipe.models.backbones.registry import Architecture, BackboneChoice
from imgpipe.models.errors import ConfigError

if TYPE_CHECKING:
    import keras

#: Side in pixels of the images with which the course uses each network.
IMAGE_SIZES: Final = {
    "conv_16_32_64": 150,
    "conv_32_64_128_128": 150,
    "conv_16_32_64_64_64": 300,
    "conv_64_64_128_128": 150,
    "conv_64_64_grey": 28,
}
DEFAULT_SIZE: Final = 150  # side in pixels for all other networks of the pattern
_NAME: Final = re.compile(r"conv((?:_[1-9]\d{0,3}){1,6})(_grey)?")


def build(choice: BackboneChoice, side: tuple[int, int]) -> keras.Model:
    """Build the network to the output of its last pooling; see `Architecture`.

    A ConfigError says that the images are so small that the last feature map would be empty.
    """
    import keras
    from keras import layers

    name = choice.name
    filters = [int(number) for number in name.removesuffix("_grey").split("_")[1:]]
    # Backwards from one pixel: a pooling halves the side, and the convolution before it takes 2.
    least = 3 * 2 ** len(filters) - 2
    if min(side) < least:
        raise ConfigError(
            f"image_size: {name} needs {least} pixels or more, so that something is left after "
            f"{len(filters)} convolutions and poolings. Received: {min(side)}"
        )
    pixels = keras.Input((*side, 3), dtype="float32")
    x = layers.Rescaling(1 / 255, dtype="float32", name="normalise")(pixels)
    if name.endswith("_grey"):
        x = keras.ops.image.rgb_to_grayscale(x)
    for number, count in enumerate(filters, 1):
        x = layers.Conv2D(count, 3, activation="relu", name=f"conv{number}")(x)
        x = layers.MaxPooling2D(2, name=f"pool{number}")(x)
    return keras.Model(pixels, x, name=name)


def named(name: str) -> Architecture | None:
    """Return the network that a name such as `conv_16_32_64` describes; None for other names."""
    if _NAME.fullmatch(name) is None:
        return None
    return Architecture(name, IMAGE_SIZES.get(name, DEFAULT_SIZE), build, imagenet=False)


ARCHITECTURES: Final = tuple(
    Architecture(name, size, build, imagenet=False) for name, size in IMAGE_SIZES.items()
)
