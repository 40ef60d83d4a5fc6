"""Draws the inside of a network: feature maps as a grid, vectors as bars, Grad-CAM on an image.

The images are drawn with matplotlib, whose font contains most alphabets. Each image carries a text
that explains to a newcomer how to read it.
"""

from __future__ import annotations

import io
import math
import textwrap
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from imgpipe.models.network.activations import most_varied

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_MAPS: Final = 64

_DPI: Final = 100
_INK, _MUTED, _ACCENT = "#1f2328", "#59636e", "#2666eb"
_MAPS, _HEAT = "viridis", "turbo"  # colour maps; low values are dark, or blue
_NOTHING: Final = 225  # grey value that stands for a map with the same value everywhere
_TILE_LEAST, _TILE_MOST, _GAP, _LABEL = 112, 160, 6, 16  # pixels
_COLUMNS, _FEW_COLUMNS = 8, 5
_HEADER, _WIDTH_LEAST = 118, 860  # pixels
_IMAGE_LEAST, _IMAGE_MOST = 320, 640  # pixels, longest side
_PANEL_LEAST: Final = 300  # pixels, wide enough for the caption below
_HEAT_SHARE: Final = 0.5  # weight of the heat map's colours in an overlay
_BARS: Final = 64

Pixels = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float32]


def feature_maps(maps: Array, title: str, arithmetic: str, seen: Pixels) -> bytes:
    """Draws the feature maps of one layer as a PNG, those with the highest variance first.

    Each map is scaled to its own range of values.

    Args:
        maps: The feature maps, float [h, w, D].
        title: Name and class of the layer.
        arithmetic: How the size of the maps is computed; "" leaves that line out.
        seen: The image as the network receives it, uint8 [S, S, 3].

    Returns:
        The content of a PNG file.
    """
    height, width, depth = maps.shape
    shown = most_varied(maps, MOST_MAPS)
    tiles = [_tile(maps[..., channel]) for channel in shown]
    columns = min(len(tiles), _COLUMNS if len(tiles) >= 2 * _COLUMNS else _FEW_COLUMNS)
    rows = math.ceil(len(tiles) / columns)
    tile_height, tile_width = tiles[0].shape[:2]
    wide = columns * (tile_width + _GAP) + _GAP
    high = rows * (tile_height + _GAP + _LABEL) + _GAP
    figure, size = _figure(max(wide, _WIDTH_LEAST), high + _HEADER)
    axes = _axes(figure, size, (0, _HEADER, wide, high))
    axes.imshow(_mosaic(tiles, columns, wide, high), interpolation="nearest")
    for number, channel in enumerate(shown):
        left, top = _place(number, columns, tile_width, tile_height)
        text = f"map {channel}{_constant(maps[..., channel])}"
        axes.text(left, top + tile_height + 3, text, color=_MUTED, size=7, va="top")
    which = f"All {depth} maps, those that vary most over the image first"
    if depth > MOST_MAPS:
        which = f"{MOST_MAPS} of {depth} maps: those that vary most over the image, in this order"
    texts = [
        f"{title}: {width} × {height} × {depth}",
        f"{which}.\nEach map is coloured from its own lowest value (dark) to its highest.",
        arithmetic and f"Size: {arithmetic}",
    ]
    _header(figure, size, seen, texts)
    return _png(figure)


def vector(values: Array, title: str, arithmetic: str, seen: Pixels, names: Sequence[str]) -> bytes:
    """Draws the values of one layer as a PNG with one bar for each value.

    Args:
        values: The values, float [D].
        title: Name and class of the layer.
        arithmetic: How the number of values is computed; "" leaves that line out.
        seen: The image as the network receives it, uint8 [S, S, 3].
        names: Names of the values, such as the classes; an empty sequence numbers the bars.

    Returns:
        The content of a PNG file.
    """
    named = len(names) == len(values)
    # As a map of a single position, the values are ordered by how far they are from 0.
    order = range(len(values)) if len(values) <= _BARS else most_varied(values[None, None], _BARS)
    shown = list(order)
    figure, size = _figure(_WIDTH_LEAST, _HEADER + 360)
    axes = _axes(figure, size, (60, _HEADER + 10, _WIDTH_LEAST - 80, 260))
    axes.set_axis_on()
    axes.bar(range(len(shown)), [float(values[i]) for i in shown], color=_ACCENT)
    labels = [_plain(textwrap.shorten(names[i], 24)) if named else str(i) for i in shown]
    upright = len(shown) > 8  # more names than that would overlap side by side
    axes.set_xticks(range(len(shown)), labels, rotation=90 if upright else 0, size=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.axhline(0, color=_MUTED, linewidth=0.6)
    which = (
        "All values." if len(values) <= _BARS else f"The {_BARS} farthest from 0, in this order."
    )
    texts = [f"{title}: {len(values)}", which, arithmetic and f"Size: {arithmetic}"]
    _header(figure, size, seen, texts)
    return _png(figure)


def grad_cam(image: Pixels, cam: Array, label: str, top: Sequence[tuple[str, float]]) -> bytes:
    """Draws the image and, beside it, the image under the Grad-CAM map of its top class, as a PNG.

    Args:
        image: The decoded image, uint8 [H, W, 3].
        cam: Output of the ``cam`` signature for this image, float [h, w], 0..1.
        label: The label that is served for the image.
        top: Classes with their probabilities, highest first.

    Returns:
        The content of a PNG file.
    """
    shown = _fitting(image)
    height, width = shown.shape[:2]
    margin, header, bar, footer, panel = 24, 84, 110, 40, max(width, _PANEL_LEAST)
    figure, size = _figure(2 * panel + 3 * margin + bar, height + header + footer)
    best = _plain(textwrap.shorten(top[0][0], 24, placeholder="…"))
    evidence = f"evidence for “{best}” ({cam.shape[1]} × {cam.shape[0]} cells)"
    panels = ((shown, "the image"), (overlay(shown, cam), evidence))
    for number, (image, caption) in enumerate(panels):
        left = margin + number * (panel + margin) + (panel - width) // 2
        axes = _axes(figure, size, (left, header, width, height))
        axes.imshow(image, interpolation="nearest")
        middle = (left + width / 2) / size[0]
        figure.text(middle, (footer - 10) / size[1], caption, ha="center", va="top", size=9)
    scale = _axes(figure, size, (2 * (panel + margin) + 14, header, 16, height))
    scale.set_axis_on()
    scale.imshow(_blended(np.full((256, 1), 0.5), np.linspace(1, 0, 256)[:, None]), aspect="auto")
    scale.set_xticks([])
    scale.set_yticks([0, 128, 255], ["1: most", "0.5", "0: nothing"], size=8)
    scale.yaxis.tick_right()
    classes = ", ".join(f"{name} {probability:.3f}" for name, probability in top)
    text = classes if cam.any() else f"{classes}. No part of the image supports {top[0][0]}."
    wrapped = "\n".join(textwrap.wrap(text, size[0] // 7)[:2])  # a letter is about 7 pixels wide
    for line, down, points, colour in (
        (f"Grad-CAM, label: {label}", 16, 13, _INK),
        (wrapped, 44, 9, _MUTED),
    ):
        position = (margin / size[0], 1 - down / size[1])
        figure.text(*position, _plain(line), size=points, color=colour, va="top")
    return _png(figure)


def overlay(image: Pixels, cam: Array) -> Pixels:
    """Return the image in grey, blended with a heat map.

    Args:
        image: The image, uint8 [H, W, 3].
        cam: The heat map, float [h, w], 0..1; it is stretched to the size of the image.

    Returns:
        The blended image, uint8 [H, W, 3].
    """
    from PIL import Image

    size = (image.shape[1], image.shape[0])
    grey = np.asarray(Image.fromarray(image).convert("L"), np.float64) / 255
    heat = Image.fromarray(cam.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    return _blended(grey, np.asarray(heat, np.float64))


def _blended(grey: npt.NDArray[np.float64], heat: npt.NDArray[np.float64]) -> Pixels:
    """Return grey values and heat, both [H, W] in 0..1, blended to colours, uint8 [H, W, 3]."""
    import matplotlib

    colours = matplotlib.colormaps[_HEAT](np.clip(heat, 0, 1))[..., :3]
    mixed = (1 - _HEAT_SHARE) * grey[..., None] + _HEAT_SHARE * colours
    return np.round(255 * mixed).astype(np.uint8)


def _fitting(image: Pixels) -> Pixels:
    """Return the image enlarged or shrunk to a size that is convenient to look at."""
    from PIL import Image

    longest = max(image.shape[:2])
    wanted = min(max(longest, _IMAGE_LEAST), _IMAGE_MOST)
    if wanted == longest:
        return image
    height, width = (max(1, round(side * wanted / longest)) for side in image.shape[:2])
    # An enlarged image shows its own pixels instead of blurred ones.
    resampling = Image.Resampling.NEAREST if wanted > longest else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(image).resize((width, height), resampling))


def _tile(values: Array) -> Pixels:
    """Return one map as colours, uint8 [h, w, 3]; each value of a small map becomes a square."""
    import matplotlib
    from PIL import Image

    low, high = float(values.min()), float(values.max())
    height, width = values.shape
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    longest = max(height, width)
    if longest > _TILE_MOST:
        size = (width * _TILE_MOST // longest or 1, height * _TILE_MOST // longest or 1)
        small = Image.fromarray(scaled.astype(np.float32)).resize(size, Image.Resampling.BOX)
        scaled = np.asarray(small)
    else:
        times = math.ceil(_TILE_LEAST / longest)  # whole pixels, so that no value is interpolated
        scaled = scaled.repeat(times, 0).repeat(times, 1)
    if high <= low:
        return np.full((*scaled.shape, 3), _NOTHING, np.uint8)
    return np.round(255 * matplotlib.colormaps[_MAPS](scaled)[..., :3]).astype(np.uint8)


def _constant(values: Array) -> str:
    """Return a remark for the caption when the map has the same value everywhere, otherwise ""."""
    low, high = float(values.min()), float(values.max())
    return "" if high > low else f": {low:.3g} everywhere"


def _place(number: int, columns: int, width: int, height: int) -> tuple[int, int]:
    """Return the left and top edge of a tile in the grid, in pixels."""
    row, column = divmod(number, columns)
    return _GAP + column * (width + _GAP), _GAP + row * (height + _GAP + _LABEL)


def _mosaic(tiles: Sequence[Pixels], columns: int, wide: int, high: int) -> Pixels:
    sheet = np.full((high, wide, 3), 255, np.uint8)
    height, width = tiles[0].shape[:2]
    for number, tile in enumerate(tiles):
        left, top = _place(number, columns, width, height)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def _figure(width: int, height: int) -> tuple[Figure, tuple[int, int]]:
    from matplotlib.figure import Figure

    figure = Figure((width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
    return figure, (width, height)


def _axes(figure: Figure, size: tuple[int, int], box: tuple[int, int, int, int]) -> Any:
    """Add axes without frame and ticks at a box (left, top, width, height), in pixels."""
    left, top, width, height = box
    share = (left / size[0], 1 - (top + height) / size[1], width / size[0], height / size[1])
    axes = figure.add_axes(share)
    axes.set_axis_off()
    return axes


def _header(figure: Figure, size: tuple[int, int], seen: Pixels, texts: Sequence[str]) -> None:
    """Draws the image as the network receives it, and beside it the title and the other texts."""
    side = _HEADER - 3 * _GAP
    _axes(figure, size, (_GAP, _GAP, side, side)).imshow(seen, interpolation="antialiased")
    left, tops = (side + 3 * _GAP) / size[0], (10, 36, 78)
    styles = ((13, _INK), (9, _MUTED), (9, _MUTED))
    for text, top, (points, colour) in zip(texts, tops, styles, strict=True):
        figure.text(left, 1 - top / size[1], text, va="top", size=points, color=colour)


def _plain(text: str) -> str:
    """Escapes every $, with which matplotlib would begin a formula."""
    return text.replace("$", r"\$")


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        # Letters that the font lacks are drawn as boxes. The console shows the label in full.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure.savefig(file, format="png", dpi=_DPI)
    return file.getvalue()
