"""Draws the inside of a network: the feature maps of a layer, and Grad-CAM over an image."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from imgpipe.models.arrays import Array, PixelValues
from imgpipe.models.backbones import layer_graph
from imgpipe.models.errors import ConfigError, nearest

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

MOST_MAPS: Final = 64

_LISTED: Final = 40  # number of layers that an error message lists
_COLUMNS: Final = 8
_TILE: Final = 1.2  # inches
#: Colours of a heat map from its lowest value to its highest: blue, yellow, red. The page of the
#: server, the report and `imgpipe explain` draw Grad-CAM with the same ones.
HEAT: Final = ((25, 60, 200), (245, 220, 70), (225, 35, 20))
#: Weight of the heat map's colours over the grey image.
HEAT_SHARE: Final = 0.5


def choose(network: keras.Model, wanted: Sequence[str]) -> list[str]:
    """Return the names of the layers to draw, in the network's order.

    Args:
        network: A functional model of pixels.
        wanted: Names of layers, or "all" for all that give feature maps.

    Raises:
        ConfigError: The network has no layer of one of these names that gives feature maps.
    """
    names = [
        node.operation.name
        for node in layer_graph.nodes(network.outputs)
        if node.reads and len(node.outputs[0].shape) == 4
    ]
    if "all" in wanted:
        return names
    unknown = [name for name in wanted if name not in names]
    if unknown:
        listed = ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")
        raise ConfigError(
            f"--layer: expected a layer that gives feature maps, or all: {listed}. Received: "
            f"{unknown[0]!r}{nearest(unknown[0], names)}"
        )
    return [name for name in names if name in wanted]


def outputs(network: keras.Model, names: Sequence[str], pixels: Array) -> dict[str, Array]:
    """Return the feature maps, float32 [h, w, D], of layers by name for an image [S, S, 3]."""
    import keras

    if not names:
        return {}
    # The output of the call: `output` of a layer that is itself a model is a tensor inside it.
    called = {node.operation.name: node for node in layer_graph.nodes(network.outputs)}
    ends = {name: called[name].outputs[0] for name in names}
    values: dict[str, Any] = keras.Model(network.input, ends)(pixels[None], training=False)
    return {name: np.asarray(values[name], np.float32)[0] for name in names}


def feature_maps(maps: Array, title: str) -> bytes:
    """Draw the feature maps [h, w, D] of one layer as a PNG, those that vary most first.

    Each is coloured from its own lowest value (dark) to its highest.
    """
    depth = maps.shape[-1]
    # A map with the same value everywhere shows no location, however high the value is.
    variation = maps.reshape(-1, depth).astype(np.float64).std(axis=0)
    shown = np.argsort(-variation, kind="stable")[:MOST_MAPS]
    columns = min(_COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    which = f"{title}\n{len(shown)} of {depth} maps, those that vary most first"
    figure = _figure(max(columns, 4) * _TILE, (rows + 0.6) * _TILE, which)
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.set_axis_off()
    for axes, channel in zip(figure.axes, shown, strict=False):
        axes.imshow(maps[..., channel], interpolation="nearest")
        axes.set_title(f"map {channel}", size=7)
    return _png(figure)


def grad_cam(image: PixelValues, cam: Array, label: str, top: Sequence[tuple[str, float]]) -> bytes:
    """Draw an image and, beside it, the image under the Grad-CAM map of its top class, as a PNG.

    Args:
        image: The decoded image, uint8 [H, W, 3].
        cam: Output of the `cam` signature for this image, float [h, w], 0..1.
        label: The label that is served for the image.
        top: Classes with their probabilities, highest first.
    """
    classes = ", ".join(f"{name} {probability:.3f}" for name, probability in top)
    height = 4 * min(1.5, image.shape[0] / image.shape[1]) + 1
    figure = _figure(9, height, f"Grad-CAM, label: {label}\n{classes}")
    evidence = f"evidence for “{top[0][0]}”: red most, blue none"
    panels = ((image, "the image"), (overlay(image, cam), evidence))
    for axes, (pixels, caption) in zip(figure.subplots(1, 2), panels, strict=True):
        axes.set_axis_off()
        axes.imshow(pixels)
        axes.set_title(_plain(caption), size=9)
    return _png(figure)


def overlay(image: PixelValues, cam: Array) -> PixelValues:
    """Return an image uint8 [H, W, 3] in grey, blended with a heat map float [h, w], 0..1."""
    from PIL import Image

    size = (image.shape[1], image.shape[0])
    grey = np.asarray(Image.fromarray(image).convert("L"), np.float64) / 255
    heat = Image.fromarray(cam.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    values = np.asarray(heat, np.float64)  # `interp` keeps values outside of 0..1 at the ends
    steps = np.linspace(0, 1, len(HEAT))
    colours = np.stack([np.interp(values, steps, stops) for stops in zip(*HEAT, strict=True)], -1)
    mixed = (1 - HEAT_SHARE) * grey[..., None] + HEAT_SHARE * colours / 255
    return np.round(255 * mixed).astype(np.uint8)


def _figure(width: float, height: float, title: str) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="tight", facecolor="white")
    figure.suptitle(_plain(title), size=10)
    return figure


def _plain(text: str) -> str:
    return text.replace("$", r"\$")  # matplotlib would begin a formula with it


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        # Letters that the font lacks are drawn as boxes. The console shows the label in full.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure.savefig(file, format="png")
    return file.getvalue()
