"""Images of a network's inside: feature maps as a grid, vectors as bars, Grad-CAM on an image.

Drawn with matplotlib, whose font has most alphabets; every text says what a newcomer must know to
read the image.
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

from imgpipe.models.activations import most_varied

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_MAPS: Final = 64

_DPI: Final = 100
_INK, _MUTED, _ACCENT = "#1f2328", "#59636e", "#2666eb"
_MAPS, _HEAT = "viridis", "turbo"  # colour maps: low is dark, low is blue
_NOTHING: Final = 225  # grey of a map that is the same everywhere
_TILE_LEAST, _TILE_MOST, _GAP, _LABEL = 112, 160, 6, 16  # pixels
_COLUMNS, _FEW_COLUMNS = 8, 5
_HEADER, _WIDTH_LEAST = 118, 860  # pixels
_PICTURE_LEAST, _PICTURE_MOST = 320, 640  # pixels, longest side
_PANEL_LEAST: Final = 300  # pixels, room for what is said below
_HEAT_SHARE: Final = 0.5  # of the heat in an overlay
_BARS: Final = 64

Pixels = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float32]


def feature_maps(maps: Array, title: str, arithmetic: str, seen: Pixels) -> bytes:
    """Draws the maps of one layer as a PNG, the most varied first, each scaled to its own range.

    Args:
        maps: [h, w, D].
        title: Name and kind of the layer.
        arithmetic: How its size is computed, or "" to leave that out.
        seen: The image as the network sees it, [S, S, 3].
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
    _header(
        figure,
        size,
        seen,
        [
            f"{title}: {width} × {height} × {depth}",
            f"{which}.\nEach map is coloured from its own lowest value (dark) to its highest.",
            arithmetic and f"Size: {arithmetic}",
        ],
    )
    return _png(figure)


def vector(values: Array, title: str, arithmetic: str, seen: Pixels, names: Sequence[str]) -> bytes:
    """Draws the values of one layer as a PNG of bars.

    Args:
        values: [D].
        title: Name and kind of the layer.
        arithmetic: How its size is computed, or "" to leave that out.
        seen: The image as the network sees it, [S, S, 3].
        names: Names of the values, or an empty sequence.
    """
    named = len(names) == len(values)
    order = range(len(values)) if len(values) <= _BARS else most_varied(values[None, None], _BARS)
    shown = list(order)
    figure, size = _figure(_WIDTH_LEAST, _HEADER + 360)
    axes = _axes(figure, size, (60, _HEADER + 10, _WIDTH_LEAST - 80, 260))
    axes.set_axis_on()
    axes.bar(range(len(shown)), [float(values[i]) for i in shown], color=_ACCENT)
    labels = [_plain(textwrap.shorten(names[i], 24)) if named else str(i) for i in shown]
    tilted = len(shown) > 8
    axes.set_xticks(range(len(shown)), labels, rotation=90 if tilted else 0, size=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.axhline(0, color=_MUTED, linewidth=0.6)
    which = (
        "All values." if len(values) <= _BARS else f"The {_BARS} farthest from 0, in this order."
    )
    texts = [f"{title}: {len(values)}", which, arithmetic and f"Size: {arithmetic}"]
    _header(figure, size, seen, texts)
    return _png(figure)


def grad_cam(image: Pixels, cam: Array, label: str, top: Sequence[tuple[str, float]]) -> bytes:
    """Draws the image and, beside it, the same image under the Grad-CAM map of its label, as a PNG.

    Args:
        image: The decoded image, [H, W, 3].
        cam: [h, w], 0..1, of the ``cam`` signature.
        label: The label that is served for it.
        top: Classes with their probabilities, highest first.
    """
    shown = _fitting(image)
    height, width = shown.shape[:2]
    margin, header, bar, footer, panel = 24, 84, 110, 40, max(width, _PANEL_LEAST)
    figure, size = _figure(2 * panel + 3 * margin + bar, height + header + footer)
    best = _plain(textwrap.shorten(top[0][0], 24, placeholder="…"))
    speaks = f"what speaks for “{best}” ({cam.shape[1]} × {cam.shape[0]} cells)"
    panels = ((shown, "the image"), (overlay(shown, cam), speaks))
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
    said = ", ".join(f"{name} {probability:.3f}" for name, probability in top)
    text = said if cam.any() else f"{said}. No part of the image speaks for {top[0][0]}."
    wrapped = "\n".join(textwrap.wrap(text, size[0] // 7)[:2])
    for line, down, points, colour in (
        (f"Grad-CAM, label: {label}", 16, 13, _INK),
        (wrapped, 44, 9, _MUTED),
    ):
        position = (margin / size[0], 1 - down / size[1])
        figure.text(*position, _plain(line), size=points, color=colour, va="top")
    return _png(figure)


def overlay(image: Pixels, cam: Array) -> Pixels:
    """Returns the image in grey under a heat map, in the size of the image.

    Args:
        image: [H, W, 3].
        cam: [h, w], 0..1; it is stretched over the whole image.
    """
    from PIL import Image

    size = (image.shape[1], image.shape[0])
    grey = np.asarray(Image.fromarray(image).convert("L"), np.float64) / 255
    heat = Image.fromarray(cam.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    return _blended(grey, np.asarray(heat, np.float64))


def _blended(grey: npt.NDArray[np.float64], heat: npt.NDArray[np.float64]) -> Pixels:
    """Uint8 [H, W, 3] of grey values and heat, both [H, W] in 0..1."""
    import matplotlib

    colours = matplotlib.colormaps[_HEAT](np.clip(heat, 0, 1))[..., :3]
    mixed = (1 - _HEAT_SHARE) * grey[..., None] + _HEAT_SHARE * colours
    return np.round(255 * mixed).astype(np.uint8)


def _fitting(image: Pixels) -> Pixels:
    """The image at a size that is good to look at."""
    from PIL import Image

    longest = max(image.shape[:2])
    wanted = min(max(longest, _PICTURE_LEAST), _PICTURE_MOST)
    if wanted == longest:
        return image
    height, width = (max(1, round(side * wanted / longest)) for side in image.shape[:2])
    way = Image.Resampling.NEAREST if wanted > longest else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(image).resize((width, height), way))


def _tile(values: Array) -> Pixels:
    """One map in colours, uint8 [h, w, 3], each value a square where the map is small."""
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
        times = math.ceil(_TILE_LEAST / longest)
        scaled = scaled.repeat(times, 0).repeat(times, 1)
    if high <= low:
        return np.full((*scaled.shape, 3), _NOTHING, np.uint8)
    return np.round(255 * matplotlib.colormaps[_MAPS](scaled)[..., :3]).astype(np.uint8)


def _constant(values: Array) -> str:
    """Returns the remark on a map that is the same everywhere and so shows nothing."""
    low, high = float(values.min()), float(values.max())
    return "" if high > low else f": {low:.3g} everywhere"


def _place(number: int, columns: int, width: int, height: int) -> tuple[int, int]:
    """Left and top of a tile in the grid."""
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
    """Axes of (left, top, width, height) in pixels, nothing drawn around them."""
    left, top, width, height = box
    share = (left / size[0], 1 - (top + height) / size[1], width / size[0], height / size[1])
    axes = figure.add_axes(share)
    axes.set_axis_off()
    return axes


def _header(figure: Figure, size: tuple[int, int], seen: Pixels, texts: Sequence[str]) -> None:
    """The image as the network sees it, the title beside it, and what else there is to say."""
    side = _HEADER - 3 * _GAP
    _axes(figure, size, (_GAP, _GAP, side, side)).imshow(seen, interpolation="antialiased")
    left, tops = (side + 3 * _GAP) / size[0], (10, 36, 78)
    styles = ((13, _INK), (9, _MUTED), (9, _MUTED))
    for text, top, (points, colour) in zip(texts, tops, styles, strict=True):
        figure.text(left, 1 - top / size[1], text, va="top", size=points, color=colour)


def _plain(text: str) -> str:
    """Text in which no $ begins a formula."""
    return text.replace("$", r"\$")


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        # Of letters that the font lacks: they become boxes, and the console names the label.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure.savefig(file, format="png", dpi=_DPI)
    return file.getvalue()
