"""Curves as inline SVG that use the colours of the page, in light and dark mode.

Names from the data are never drawn into a plot. They are written in HTML, where the browser has the
fonts for every script and the template engine escapes them. The `name` of a plot is unique on its
page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import markupsafe
    from matplotlib.figure import Figure

#: Colours that matplotlib writes, by the name of the page's colour that replaces each of them. They
#: occur nowhere else in an SVG, so that replacing text is safe.
_COLOURS = {
    "muted": "#0a0b02",
    "line": "#0a0b03",
    "train": "#0a0b04",
    "validation": "#0a0b05",
}
_FONT = 8.5  # points at a width of about 300
_DASHED = (0, (4, 2))


def curves(
    epochs: Sequence[float],
    train: Sequence[float | None],
    validation: Sequence[float | None],
    best: float | None,
    name: str,
) -> markupsafe.Markup:
    """Plot a metric over the epochs, dashed for training and solid for validation.

    Args:
        epochs: Numbers of the epochs.
        train: Values on the training split, None for an epoch without one.
        validation: Values on the validation split, None for an epoch without one.
        best: Number of the best epoch, which is marked; None for no mark.
        name: Name of the plot, unique on the page.
    """
    figure, axes = _axes()
    size = 2.5 if len(epochs) < 3 else 0  # one epoch does not make a line
    for values, split, style in ((train, "train", _DASHED), (validation, "validation", "-")):
        points = [float("nan") if value is None else float(value) for value in values]
        axes.plot(epochs, points, "o", color=_COLOURS[split], linestyle=style, markersize=size)
    if best is not None and best in epochs:
        axes.axvline(best, color=_COLOURS["muted"], linewidth=0.8, linestyle=(0, (1, 2)))
        value = validation[list(epochs).index(best)]
        if value is not None:
            axes.plot([best], [value], "o", color=_COLOURS["validation"], markersize=5)
    axes.xaxis.get_major_locator().set_params(integer=True, nbins=7)
    return _svg(figure, name)


def learning_curve(
    points: Sequence[tuple[float, float]],
    beyond: Sequence[tuple[float, float]],
    threshold: float | None,
    name: str,
) -> markupsafe.Markup:
    """Plot the accuracy over the number of training images, dashed where it was not measured.

    Args:
        points: Numbers of images and accuracies that were measured.
        beyond: Those of the curve that continues them; empty if nothing can be said.
        threshold: Accuracy that is asked for, drawn as a dotted line; None for no line.
        name: Name of the plot, unique on the page.
    """
    figure, axes = _axes()
    axes.plot(*zip(*points, strict=True), "o-", color=_COLOURS["validation"], markersize=4)
    if beyond:
        axes.plot(*zip(*beyond, strict=True), color=_COLOURS["validation"], linestyle=_DASHED)
    if threshold is not None:
        axes.axhline(threshold, color=_COLOURS["muted"], linewidth=1, linestyle=(0, (1, 2)))
        text = f"asked for: {threshold:g}"
        place = (points[0][0], threshold)
        axes.annotate(
            text, place, (0, 3), textcoords="offset points", color=_COLOURS["muted"], fontsize=_FONT
        )
    axes.set_xlim(left=0)
    return _svg(figure, name)


def _axes() -> tuple[Figure, Any]:
    """Return a figure, made without pyplot, and its axes in the colours of the page."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 2.3), layout="constrained")  # inches
    axes: Any = figure.subplots()
    figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_COLOURS["line"])
    axes.tick_params(colors=_COLOURS["muted"], labelsize=_FONT, length=2.5, color=_COLOURS["line"])
    axes.margins(x=0.02)
    axes.grid(axis="y", color=_COLOURS["line"], linewidth=0.6)
    axes.locator_params(axis="y", nbins=5)
    return figure, axes


def _svg(figure: Figure, name: str) -> markupsafe.Markup:
    """Return the markup of a figure, which is the same each time.

    Screen readers skip the figure, because its caption says what it shows.
    """
    import markupsafe
    from matplotlib import rc_context

    buffer = io.StringIO()
    # Text stays text in the font of the page, and the ids and the date do not change.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "imgpipe"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]  # without the XML declaration, which HTML does not allow
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.S)
    # Without a size in points, the page's style decides; ids are unique on a page with many plots.
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    for colour, stand_in in _COLOURS.items():
        svg = svg.replace(stand_in, f"var(--{colour})")
    svg = svg.replace("<svg ", '<svg class="plot" aria-hidden="true" ', 1)
    return markupsafe.Markup(re.sub(r"\s*\n\s*", "\n", svg))
