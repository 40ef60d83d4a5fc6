"""Where a network is cut for fine-tuning: layers below run once, frozen; those above train.

A cut is a layer by name, a block ("block11": the last layer of it) or "usual", about two thirds
up. Networks are given as models from pixels to feature map.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from imgpipe.models import backbones
from imgpipe.models.errors import ConfigError

if TYPE_CHECKING:
    import keras

#: Stands for the cut at `FROZEN_SHARE` of the cut points.
USUAL: Final = "usual"
FROZEN_SHARE: Final = 0.7
_LISTED: Final = 40


def layer_at(network: keras.Model, cut: str) -> Any:
    """The layer that `cut` means.

    Raises:
        ConfigError: No such layer, or what is above it needs more than its output.
    """
    points = backbones.cut_points(network)
    if cut == USUAL:
        name = points[int(FROZEN_SHARE * (len(points) - 1))]
    else:
        name = backbones.find_cut(network, cut)
    if name not in points:
        raise ConfigError(
            "fine_tune.cut: expected a layer whose output is all that the layers above it need: "
            f"{', '.join(_shortened(points))}. Received: {cut!r}"
        )
    return network.get_layer(name)


def above(network: keras.Model, cut: str) -> list[Any]:
    """Layers with weights between the cut, itself left out, and the feature map."""
    import keras

    layer = layer_at(network, cut)
    tail = keras.Model(layer.output, network.outputs)
    return [one for one in tail.layers if one is not layer and one.weights]


def _shortened(names: list[str]) -> list[str]:
    if len(names) <= _LISTED:
        return names
    return [*names[: _LISTED // 2], "…", *names[-_LISTED // 2 :]]
