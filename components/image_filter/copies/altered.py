"""Search for copies that were altered: turned, tilted, shifted, zoomed or put into a frame.

Such changes leave the middle of an image intact and put something else at its edges. So the image
is described by its middle, a square of 70 % of the shorter side, reduced to a grid of grey cells. A
copy shows in its middle what the original shows at another place, or in another position; `VIEWS`
are these places. The middle of each image is compared with all views of the others: first by the
signs of the differences between neighbouring cells, for which `hamming` needs no comparison of
all pairs, then by the correlation of these differences.

Measured with `python -m benchmarks.judge --altered`: see docs/benchmarks.md.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imgpipe.components.common.image_file.pixels import (
    BITS,
    GREY_SIDE,
    SHAPE_FACTOR,
    SQUARE,
)
from imgpipe.components.image_filter.copies.hamming import Effort, Pairs, Words, neighbours
from imgpipe.models.arrays import Floats, Indices

_SIDE = 12  # cells of the middle in each direction
#: Half of the side of the middle as a share of the shorter side of the image. Turned by any angle,
#: a square of this size stays within the image.
_HALF = 0.35
#: Correlation from which two middles are alike. How many pairs of different images reach it is in
#: docs/benchmarks.md, "Checks of the images, and drift".
_ALIKE = 0.92
_SHIFT = 0.05  # shifts of the views are multiples of this share of width and height
_FINE_SHIFT = 0.025  # shifts between them, which are tried in doubtful cases
_DOUBTFUL = 0.75  # correlation from which a case is doubtful
#: Bits in which the signs of a copy may differ from those of the view.
_RADIUS = 44
_EFFORT = Effort(orders=8, window=8)
_STEP = 2.0  # grey levels from which a difference between neighbouring cells counts
#: A middle needs so many neighbouring differences of opposite signs. Others are plain, or ramps,
#: which all look alike.
_FEWEST_TURNS = 16
_AT_ONCE = 2048  # images whose middles are computed at once, which takes 10 MB

_MIRRORED = "mirrored"
#: Names of the turns by their degrees.
_TURNS = {90: "turned by 90 degrees", 180: "upside down", 270: "turned by 270 degrees"}


@dataclass(frozen=True)
class View:
    """A place of an image that a copy may show in its middle.

    Attributes:
        name: How the copy was altered.
        turn: Matrix from the middle of the copy to the original, [2, 2].
        shift: Shift (right, down), as shares of width and height.
    """

    name: str
    turn: npt.NDArray[np.float64]
    shift: tuple[float, float] = (0.0, 0.0)


def _rotation(degrees: float) -> npt.NDArray[np.float64]:
    angle = math.radians(degrees)
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def _views() -> Iterator[View]:
    """Yield the views, without those that are the inverse of another one."""
    upright = np.eye(2)
    mirror = np.diag([-1.0, 1.0])
    yield View("its middle is the same", upright)
    yield View(_TURNS[90], _rotation(90))
    yield View(_TURNS[180], _rotation(180))
    yield View(_MIRRORED, mirror)
    for degrees, name in _TURNS.items():
        yield View(f"{_MIRRORED} and {name}", _rotation(degrees) @ mirror)
    for degrees in (-15, -10, -5, 5, 10, 15):
        angle = math.radians(abs(degrees))
        # The canvas was enlarged so that the corners stay, or the empty corners were cut off.
        fitted = math.cos(angle) + math.sin(angle)
        name = f"tilted by about {abs(degrees)} degrees and fitted"
        yield View(name, fitted * _rotation(degrees))
    for also, side in (("", upright), (f"{_MIRRORED} and ", mirror)):
        # The inverse of a tilt or a shift goes the other way. A mirrored tilt is its own inverse,
        # and that of a mirrored shift goes the other way only up or down.
        for degrees in (5, 10, 15, -5, -10, -15) if also else (5, 10, 15):
            yield View(f"{also}tilted by about {abs(degrees)} degrees", _rotation(degrees) @ side)
        for zoom in (0.8, 0.9):
            yield View(f"{also}zoomed or put into a frame", zoom * side)
        for right, down in itertools.product(range(-2, 3), range(3)):
            if down > 0 or right > 0 or (also and right < 0):
                yield View(f"{also}shifted", side, (right * _SHIFT, down * _SHIFT))


VIEWS: tuple[View, ...] = tuple(_views())


class ImageMiddles:
    """The middles of n images.

    The grey images are uint8 [n, `GREY_BYTES`], and their shapes uint8 [n]; see `SHAPE_FACTOR`.
    """

    def __init__(self, greys: npt.NDArray[np.uint8], shapes: npt.NDArray[np.uint8]) -> None:
        self._pictures = np.empty((len(greys), GREY_SIDE * GREY_SIDE), np.uint8)
        for part in _cut(np.arange(len(greys))):
            self._pictures[part] = _smoothed(greys[part])
        self._shapes = shapes

    def neighbours(self) -> Iterator[Pairs]:
        """Yield pairs of images whose middle and view have similar signs; see `alike`.

        The kind of a pair is the number of the view of its second image.
        """
        parts = _cut(np.arange(len(self._pictures)))
        textured = [_is_textured(self._differences(part, VIEWS[0])) for part in parts]
        usable = np.flatnonzero(np.concatenate(textured))
        if len(usable) < 2:
            return
        middles = self._signs(usable, VIEWS[0])
        for number, view in enumerate(VIEWS):
            views = self._signs(usable, view) if number else middles
            for pairs in neighbours(middles, views, number, _RADIUS, _EFFORT):
                of_view = pairs[pairs["kind"] == number]
                of_view["first"] = usable[of_view["first"]]
                of_view["second"] = usable[of_view["second"]]
                yield of_view

    def alike(self, pairs: Pairs) -> npt.NDArray[np.bool_]:
        """Tell which first images show in their middle the view of the second, bool [m]."""
        alike = np.zeros(len(pairs), bool)
        for number in np.unique(pairs["kind"]).tolist():
            of_view = pairs["kind"] == number
            compared = pairs[of_view]
            alike[of_view] = self._shows(compared["first"], compared["second"], VIEWS[number])
        return alike

    def _shows(self, first: Indices, second: Indices, view: View) -> npt.NDArray[np.bool_]:
        """Tell which first images show in their middle a view of the second, or one nearby."""
        middles = unit_rows(self._differences(first, VIEWS[0]))
        scores = (middles * unit_rows(self._differences(second, view))).sum(axis=1)
        shown = scores >= _ALIKE
        (doubtful,) = np.nonzero(~shown & (scores >= _DOUBTFUL))
        if not len(doubtful):
            return shown
        for right in (-_FINE_SHIFT, 0.0, _FINE_SHIFT):
            for down in (-_FINE_SHIFT, 0.0, _FINE_SHIFT):
                shift = (view.shift[0] + right, view.shift[1] + down)
                nearby = self._differences(second[doubtful], View(view.name, view.turn, shift))
                shown[doubtful] |= (middles[doubtful] * unit_rows(nearby)).sum(axis=1) >= _ALIKE
        return shown

    def _signs(self, rows: Indices, view: View) -> Words:
        """Return the signs of the first `BITS` differences of a view, uint64 [m, 4]."""
        parts = [self._differences(part, view)[:, :BITS] > 0 for part in _cut(rows)]
        return np.concatenate([np.packbits(part, axis=1) for part in parts]).view(np.uint64)

    def _differences(self, rows: Indices, view: View) -> Floats:
        """Return the differences between neighbouring cells of a view of some images, [m, d]."""
        differences = np.empty((len(rows), 2 * _SIDE * (_SIDE - 1)), np.float32)
        for shape in np.unique(self._shapes[rows]).tolist():
            (of_shape,) = np.nonzero(self._shapes[rows] == shape)
            pictures = self._pictures[rows[of_shape]]
            cells = np.zeros((len(of_shape), _SIDE * _SIDE), np.float32)
            for place, share in _samples(view, SHAPE_FACTOR ** (shape - SQUARE)):
                cells += pictures.take(place, axis=1) * share
            differences[of_shape] = steps_between(cells.reshape(-1, _SIDE, _SIDE))
        return differences


def _cut(rows: Indices) -> list[Indices]:
    """Cut rows into parts that are computed at once."""
    return np.split(rows, range(_AT_ONCE, len(rows), _AT_ONCE))


def steps_between(cells: Floats) -> Floats:
    """Return the differences between neighbouring cells of images [n, h, w], [n, d].

    Those between columns come first.
    """
    steps = (np.diff(cells, axis=2), np.diff(cells, axis=1))
    return np.concatenate([step.reshape(len(cells), -1) for step in steps], axis=1)


def _samples(view: View, aspect: float) -> list[tuple[Indices, Floats]]:
    """Return the four pixels around each cell of a view, and their shares of it, [cells] each.

    They are those of bilinear interpolation; the aspect of the images is width / height.
    """
    scale = np.array([[min(1 / aspect, 1)], [min(aspect, 1)]])
    places = view.turn @ _middle() * scale + np.array(view.shift)[:, None] + 0.5
    places = np.clip(places * GREY_SIDE - 0.5, 0, GREY_SIDE - 1.001)
    corner = places.astype(np.int64)
    right, down = (places - corner).astype(np.float32)
    first = corner[1] * GREY_SIDE + corner[0]
    return [
        (first, (1 - down) * (1 - right)),
        (first + 1, (1 - down) * right),
        (first + GREY_SIDE, down * (1 - right)),
        (first + GREY_SIDE + 1, down * right),
    ]


@functools.cache
def _middle() -> npt.NDArray[np.float64]:
    """Return the places of the cells (right, down) from the centre, [2, cells]."""
    along = ((np.arange(_SIDE) + 0.5) / _SIDE * 2 - 1) * _HALF
    return np.stack([grid.ravel() for grid in np.meshgrid(along, along)])


def _smoothed(greys: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Blur grey images [n, pixels], so that a pixel stands for its surroundings."""
    pictures = greys.reshape(-1, GREY_SIDE, GREY_SIDE).astype(np.float32)
    padded = np.pad(pictures, ((0, 0), (1, 1), (1, 1)), "edge")
    across = (padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]) / 4
    down = (across[:, :-2] + 2 * across[:, 1:-1] + across[:, 2:]) / 4
    return down.round().astype(np.uint8).reshape(greys.shape)


def unit_rows(differences: Floats) -> Floats:
    """Scale each row to a length of 1; the rows of plain images, without differences, stay zero."""
    lengths = np.sqrt((differences * differences).sum(axis=1, keepdims=True))
    scaled: Floats = differences / np.maximum(lengths, np.float32(1e-3))
    return scaled


def _is_textured(differences: Floats) -> npt.NDArray[np.bool_]:
    """Tell which middles can be told from others, bool [n]."""
    across = differences[:, : differences.shape[1] // 2].reshape(-1, _SIDE, _SIDE - 1)
    down = differences[:, differences.shape[1] // 2 :].reshape(-1, _SIDE - 1, _SIDE)
    turns = np.zeros(len(differences), np.int64)
    for grid in (across, down, across.swapaxes(1, 2), down.swapaxes(1, 2)):
        before = grid[:, :-1]
        after = grid[:, 1:]
        strong = (np.abs(before) >= _STEP) & (np.abs(after) >= _STEP)
        turns += np.count_nonzero(strong & ((before > 0) != (after > 0)), axis=(1, 2))
    return turns >= _FEWEST_TURNS
