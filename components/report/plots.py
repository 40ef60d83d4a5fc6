"""Plots as inline SVG that use the colours of the page, in light and dark mode.

No text of the data is ever drawn into a plot: names of any script or length stay in HTML, where
the browser has the fonts and the page the escaping.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import markupsafe
    from matplotlib.figure import Figure

#: Stand-ins that matplotlib writes, and the page's own colours they become.
_COLOURS = {
    "ink": "#0a0b01",
    "muted": "#0a0b02",
    "line": "#0a0b03",
    "train": "#0a0b04",
    "validation": "#0a0b05",
}
_ACCENT = (0.15, 0.39, 0.92)  # of the matrix; a transparent colour lies well on light and dark
_MOST_ROWS = 500  # of an image of a matrix; more are finer than a screen shows
_FONT = 8.5  # points at a width of about 300


def curves(
    epochs: Sequence[float],
    train: Sequence[float | None],
    validation: Sequence[float | None],
    best: float | None,
    name: str,
) -> markupsafe.Markup:
    """A metric over epochs; training dashed, validation solid, the best epoch marked.

    Args:
      epochs: numbers of the epochs.
      train: values, None where there is none.
      validation: values.
      best: number of the best epoch, None for no mark.
      name: of the plot, unique on the page.
    """
    figure, axes = _figure(4.2, 2.3)
    size = 2.5 if len(epochs) < 3 else 0  # one epoch is no line: show the points
    for values, colour, style in ((train, "train", (0, (4, 2))), (validation, "validation", "-")):
        points = [float("nan") if value is None else float(value) for value in values]
        axes.plot(
            epochs,
            points,
            color=_COLOURS[colour],
            linestyle=style,
            linewidth=1.5,
            marker="o",
            markersize=size,
        )
    if best is not None and best in epochs:
        axes.axvline(best, color=_COLOURS["muted"], linewidth=0.8, linestyle=(0, (1, 2)))
        value = validation[list(epochs).index(best)]
        if value is not None:
            axes.plot([best], [value], "o", color=_COLOURS["validation"], markersize=5)
    axes.margins(x=0.02)
    axes.grid(axis="y", color=_COLOURS["line"], linewidth=0.6)
    axes.xaxis.get_major_locator().set_params(integer=True, nbins=7)
    axes.yaxis.get_major_locator().set_params(nbins=5)
    return _svg(figure, name)


def matrix(cells: Iterable[tuple[int, int, int]], classes: int, name: str) -> markupsafe.Markup:
    """A confusion matrix of many classes, each row as shares of its label; classes by number.

    Args:
      cells: (label, predicted, count) of the cells that are not 0.
      classes: Number of classes. Neighbours share a row above 500 of them.
      name: of the plot, unique on the page.
    """
    return _svg(matrix_figure(cells, classes), name)


def matrix_figure(cells: Iterable[tuple[int, int, int]], classes: int) -> Figure:
    """The figure of `matrix`: label 1 at the top, predicted 1 at the left."""
    import numpy as np

    together = -(-classes // _MOST_ROWS)
    side = -(-classes // together)
    values = np.zeros((side, side))
    for label, predicted, count in cells:
        values[label // together, predicted // together] += count
    share = values / np.maximum(values.sum(axis=1, keepdims=True), 1)
    colours = np.zeros((*share.shape, 4))
    colours[..., :3] = _ACCENT
    colours[..., 3] = np.sqrt(share)  # one mistake in a hundred must still be seen
    figure, axes = _figure(4.2, 4.2)
    end = len(share) * together + 0.5
    axes.imshow(colours, interpolation="nearest", extent=(0.5, end, end, 0.5))
    axes.set_xlabel("predicted, class number", color=_COLOURS["muted"], fontsize=_FONT)
    axes.set_ylabel("label, class number", color=_COLOURS["muted"], fontsize=_FONT)
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(integer=True, nbins=7)
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Any]:
    """A figure (inches) without pyplot, and its axes in the page's colours."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_COLOURS["line"])
    axes.tick_params(colors=_COLOURS["muted"], labelsize=_FONT, length=2.5, color=_COLOURS["line"])
    return figure, axes


def _svg(figure: Figure, name: str) -> markupsafe.Markup:
    """Markup of the figure, the same bytes each time; hidden from readers, the caption speaks."""
    import markupsafe
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "imgpipe"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    for colour, stand_in in _COLOURS.items():
        svg = svg.replace(stand_in, f"var(--{colour})")
    svg = svg.replace("<svg ", '<svg class="plot" aria-hidden="true" ', 1)
    return markupsafe.Markup(re.sub(r"\s*\n\s*", "\n", svg))
