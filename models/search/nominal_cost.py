"""The cost of a search on a machine of reference, by which it is planned without a clock.

What a run without `--minutes` trains follows from the images, the size and the network alone: a
busy or slow machine takes longer for the same training, and no clock is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from imgpipe.models.backbones import layer_graph

if TYPE_CHECKING:
    import keras

#: Seconds of reference for each image of train and validation, and the fewest and the most minutes
#: of a search. What more of them gain is in docs/benchmarks.md, "Where the search pays".
_SECONDS_AN_IMAGE: Final = 0.1
_FEWEST_MINUTES: Final = 3.0
_MOST_MINUTES: Final = 15.0
#: Multiplications in a second of reference: 248 images of 224 pixels through EfficientNet-Lite0,
#: which has 384 million of them. How well the time follows the multiplications is in
#: docs/benchmarks.md, "Constants of the code".
_MULTIPLICATIONS_A_SECOND: Final = 248 * 384e6
#: Multiplications a pixel of EfficientNet-Lite0, for networks whose layers are not known: those of
#: a class of its own.
_USUAL_A_PIXEL: Final = 384e6 / 224**2


def nominal_minutes(images: int) -> float:
    """Return for how many minutes of reference networks are trained if no time is given.

    Args:
        images: Number of distinct images of train and validation.
    """
    minutes = images * _SECONDS_AN_IMAGE / 60
    return min(max(minutes, _FEWEST_MINUTES), _MOST_MINUTES)


def nominal_seconds_a_view(network: keras.Model, side: int) -> float:
    """Return the seconds of reference of a forward pass of one view.

    Args:
        network: The backbone, from pixels to its feature map.
        side: Side of the images in pixels.
    """
    multiplications = layer_graph.multiplications(network) or _USUAL_A_PIXEL * side**2
    return multiplications / _MULTIPLICATIONS_A_SECOND
