"""The cost of a search on a machine of reference, by which it is planned without a clock.

What a run without `--minutes` trains follows from the images, the size and the network alone: a
busy or slow machine takes longer for the same training, and no clock is read.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from imgpipe.models.backbones import layer_graph

if TYPE_CHECKING:
    import keras

#: Minutes of reference for a search, up to a number of images of train and validation.
_MINUTES: Final = ((2000, 3.0), (math.inf, 15.0))
#: Multiplications in a second of reference: EfficientNet-Lite0, with 384 million of them for an
#: image of 224 pixels, computed the features of 1,240 photographs at 248 images a second, with
#: decoding, on two cores with AVX-512 and bfloat16 (`benchmarks.whole_run`). The time follows the
#: multiplications. In processor time of another machine, in float32: a view of 288 pixels takes
#: 1.57 times as long as one of 224, for 1.65 times as many. With the augmentation, the pass up to
#: the usual cut takes 0.73 of a whole one, and a view of an epoch above it 2.5; `TrainingPlan`
#: counts 1 and 2.15, so that four epochs take 10.7 passes instead of 9.6.
_MULTIPLICATIONS_A_SECOND: Final = 248 * 384e6
#: Multiplications a pixel of EfficientNet-Lite0, for networks whose layers are not known: those of
#: a class of its own.
_USUAL_A_PIXEL: Final = 384e6 / 224**2


def nominal_minutes(images: int) -> float:
    """Return for how many minutes of reference networks are trained if no time is given.

    Args:
        images: Number of distinct images of train and validation.
    """
    return next(minutes for most, minutes in _MINUTES if images <= most)


def nominal_seconds_a_view(network: keras.Model, side: int) -> float:
    """Return the seconds of reference of a forward pass of one view.

    Args:
        network: The backbone, from pixels to its feature map.
        side: Side of the images in pixels.
    """
    multiplications = layer_graph.multiplications(network) or _USUAL_A_PIXEL * side**2
    return multiplications / _MULTIPLICATIONS_A_SECOND
