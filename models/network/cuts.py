"""The cut for fine-tuning: the layers up to the cut are frozen and run once; those above train.

A cut is the name of a layer, a block such as "block11", which means its last layer, or "usual",
which is about two thirds of the way from input to output. The networks here are models from pixels
to a feature map.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from imgpipe.models import backbones
from imgpipe.models.errors import ConfigError

if TYPE_CHECKING:
    import keras

#: The name of the cut that lies at `FROZEN_SHARE` of the list of cut points.
USUAL: Final = "usual"
#: Block 10 of EfficientNet-Lite0. Its neighbours were measured on photographs of hands. Training
#: the layers above block 8 took 40 % of the time of training all layers, and training those above
#: block 11 took 24 %. On a split that shares sources, all three reached an accuracy of about 0.97.
#: Split by source, the layers above block 8 reached 0.913, and those above block 11 reached 0.897.
FROZEN_SHARE: Final = 0.7
_NEAR: Final = 0.05  # share of the cut points in which a narrow layer is searched for
_LISTED: Final = 40
_MAP_AXES: Final = 4  # [N, h, w, C]


def layer_at(network: keras.Model, cut: str) -> Any:
    """Return the layer that `cut` names.

    Args:
        network: Functional model from pixels to a feature map.
        cut: Name of a layer or of a block, or `USUAL`.

    Raises:
        ConfigError: There is no such layer, or the layers above it need more than its output.
    """
    points = backbones.cut_points(network)
    if cut == USUAL:
        maps = map_points(network)
        if not maps:
            raise ConfigError(
                "fine_tune.mode: this network has no layer above which layers could be trained, "
                "because none gives a feature map [N, h, w, C] that is all that the layers above "
                'need. Set fine_tune.mode = "off", or freeze = "none" to train all layers'
            )
        name = maps[int(FROZEN_SHARE * (len(maps) - 1))]
    else:
        name = backbones.find_cut(network, cut)
    if name not in points:
        raise ConfigError(
            "fine_tune.cut: expected a layer whose output is all that the layers above it need: "
            f"{', '.join(_shortened(points))}. Received: {cut!r}"
        )
    return network.get_layer(name)


def map_points(network: keras.Model) -> list[str]:
    """Return the cut points that give a feature map; layers between tokens do not.

    Args:
        network: Functional model from pixels to a feature map.
    """
    points = backbones.cut_points(network)
    return [name for name in points if len(network.get_layer(name).output.shape) == _MAP_AXES]


def above(network: keras.Model, cut: str) -> list[Any]:
    """Return the layers with weights above the cut, from input to output.

    Args:
        network: Functional model from pixels to a feature map.
        cut: Name of a layer or of a block, or `USUAL`. Its own layer is not returned.

    Raises:
        ConfigError: As for `layer_at`.
    """
    import keras

    cut_layer = layer_at(network, cut)
    tail = keras.Model(cut_layer.output, network.outputs)
    return [layer for layer in tail.layers if layer is not cut_layer and layer.weights]


def narrow(network: keras.Model, share: float) -> str:
    """Return the cut with the smallest activations at about a share of the cut points.

    Activations are stored for every image and view, so their size decides how many views fit.

    Args:
        network: A model from pixels to the feature map, with `map_points`.
        share: Share of the cut points that are below, 0..1.
    """
    points = map_points(network)
    last = len(points) - 1

    def size(name: str) -> int:
        return math.prod(network.get_layer(name).output.shape[1:])

    first, stop = (round((share + side) * last) for side in (-_NEAR, _NEAR))
    # Above the last point there is nothing to train.
    near = [name for name in points[max(first, 0) : stop + 1] if name != points[last]]
    return min(near or points[:1], key=size)


def share_above(network: keras.Model, cut: str) -> float:
    """Return the share of the network's operations that are above a cut, 0..1."""
    total = _operations(network.layers)
    return _operations(above(network, cut)) / total if total else 1.0


def _operations(layers: Iterable[Any]) -> float:
    """Multiplications of a forward pass of the convolutions among some layers."""
    import keras

    total = 0.0
    for layer in layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            total += math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:3])
        elif isinstance(layer, keras.layers.SeparableConv2D):
            kernels = (layer.depthwise_kernel, layer.pointwise_kernel)
            positions = math.prod(layer.output.shape[1:3])
            total += sum(math.prod(kernel.shape) for kernel in kernels) * positions
    return total


def _shortened(names: list[str]) -> list[str]:
    if len(names) <= _LISTED:
        return names
    return [*names[: _LISTED // 2], "…", *names[-_LISTED // 2 :]]
