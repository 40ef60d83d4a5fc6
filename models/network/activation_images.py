"""Draws Grad-CAM over an image."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from imgpipe.models.names.arrays import Array, PixelValues

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Colours of a heat map from its lowest value to its highest: blue, yellow, red. The page of the
#: server, the report and `imgpipe explain` draw Grad-CAM with the same ones.
HEAT: Final = ((25, 60, 200), (245, 220, 70), (225, 35, 20))
#: Weight of the heat map's colours over the grey image.
HEAT_SHARE: Final = 0.5


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
