"""Curves and the map of the images, as pictures.

Names from the data are never drawn into a plot. They are written in HTML, where the browser has the
fonts for every script and the template engine escapes them. The `name` of a plot is unique on its
page.

The picture is transparent between the images, so that it suits the light and the dark page.
"""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image, ImageDraw

from imgpipe.components.report.pictures.thumbnails import small_picture
from imgpipe.components.run_record.shown_images import ImageMap

if TYPE_CHECKING:
    import markupsafe
    from matplotlib.figure import Figure

    from imgpipe.components.image_evaluator.decision import Decision
    from imgpipe.components.run_record.result import Result
    from imgpipe.models.head.solved_head import CurvePoint, Solution
    from imgpipe.models.training.history import History


#: Farthest number of images that is spoken of, as a multiple of the largest one measured. Beyond
#: two doublings, the points say little.
_FARTHEST = 4
_DIGITS = 2  # of the number of images
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
#: Of the map of images: the side of a field and its frame, in pixels.
_FIELD = 44
_FRAME = 3
_TILE = _FIELD - 2 * (_FRAME + 1)  # side of an image in its field
#: Side of an image from which its tile is made, so that a long image has enough pixels.
TILE_SOURCE = 4 * _TILE
_DOT = 5  # radius in pixels
GREY = "#888888"  # frame of a class without a colour
_WRONG = "#e00000"
_QUALITY = 65  # of the map as WebP
#: Colours that can be told apart, also by most people who do not see all of them.
_COLOURS_OF_CLASSES = (
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#8c564b", "#9467bd", "#e377c2"),
    *("#17becf", "#bcbd22", "#6b6b6b", "#003f8a", "#c9a400", "#7f0055"),
)


class PowerLaw(NamedTuple):
    """The share of mistakes `scale * images ** -power` (Hestness et al. 2017)."""

    scale: float
    power: float

    def accuracy(self, images: float) -> float:
        """Return the accuracy with so many training images."""
        return 1 - self.scale * images**-self.power

    def images(self, accuracy: float) -> float:
        """Return the number of training images with this accuracy."""
        return float(((1 - accuracy) / self.scale) ** (-1 / self.power))


def power_law(solution: Solution) -> PowerLaw | None:
    """Return the power law that continues the learning curve from its last point.

    Its slope is that of the last three points, or of the last two where the curve flattens. It is
    None where the last gain may be chance.
    """
    curve = solution["learning_curve"] or []
    error = solution["gain_error"]
    if len(curve) < 3 or error is None:
        return None
    first, middle, last = curve[-3:]
    gained = last["accuracy"] - middle["accuracy"]
    if gained <= error or last["accuracy"] >= 1:
        return None
    slope = min(_slope(first, last), _slope(middle, last))
    if slope <= 0:
        return None
    return PowerLaw((1 - last["accuracy"]) * last["images"] ** slope, slope)


def _slope(before: CurvePoint, after: CurvePoint) -> float:
    """Return by which power of the number of images the share of mistakes falls."""
    fewer = math.log((1 - before["accuracy"]) / (1 - after["accuracy"]))
    return fewer / math.log(after["images"] / before["images"])


def images_to_threshold(training: History | None, gate: Decision | None) -> int | None:
    """Return about how many training images would reach a threshold that was missed, to two digits.

    None if the threshold was reached, if it is too far from the images that were measured, or if
    the model is not the solved head, to which the learning curve belongs.
    """
    if training is None or gate is None or "threshold" not in gate["failed"]:
        return None
    solution = training["solution"]
    if solution is None or training["fine_tune"] is not None:
        return None
    law = power_law(solution)
    curve = solution["learning_curve"]
    if law is None or not curve:
        return None
    accuracy = gate["threshold"]
    last = curve[-1]
    if not last["accuracy"] < accuracy < 1:
        return None
    images = law.images(accuracy)
    if images > _FARTHEST * last["images"]:
        return None
    step = 10 ** (math.floor(math.log10(images)) + 1 - _DIGITS)
    return math.ceil(images / step) * step


def photographs_to_add(result: Result) -> str:
    """Say about how many more photographs would reach a threshold that was missed; "" if unknown.

    The learning curve has a part of the images of all splits: those of a fold.
    """
    training = result["training"]
    gate = result["gate"]
    data = result["data"]
    images = images_to_threshold(training, gate)
    if images is None or training is None or gate is None or training["solution"] is None:
        return ""
    last = (training["solution"]["learning_curve"] or [])[-1]["images"]
    kept = data["kept"] if data is not None else last
    classes = len(result["classes"])
    of_class = math.ceil((images - last) * kept / last / classes)
    more = f"About {of_class * classes:,} more photographs, {of_class:,} of each class"
    return f"{more}, would reach {gate['threshold']:g}."


def curves(
    epochs: Sequence[float],
    train: Sequence[float | None],
    validation: Sequence[float | None],
    best: float | None,
    name: str,
) -> markupsafe.Markup:
    """Plot a metric over the epochs, dashed for training and solid for validation.

    A value is None for an epoch without one. `best` is the epoch that is marked, None for no mark.
    The name of the plot is unique on the page.
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

    The points are numbers of images and accuracies; those beyond are of the curve that continues
    them, empty if nothing can be said. The threshold is a dotted line. The name of the plot is
    unique on the page.
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


def remaining_answers(
    below: Sequence[float], answered: Sequence[float], right: Sequence[float], name: str
) -> markupsafe.Markup:
    """Plot shares over the probability that is asked for: answered dashed, right of these solid."""
    figure, axes = _axes()
    axes.plot(below, answered, color=_COLOURS["train"], linestyle=_DASHED)
    axes.plot(below, right, color=_COLOURS["validation"])
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


def map_colours(labels: Sequence[int]) -> dict[int, str]:
    """Return the colour of each of at most twelve classes."""
    return dict(zip(labels, _COLOURS_OF_CLASSES, strict=False))


def draw_map(image_map: ImageMap, files: Mapping[str, bytes], chosen: Mapping[int, str]) -> str:
    """Draw the map as a data URI, of files by content hash (any bytes) and colours by label."""
    size = (image_map["columns"] * _FIELD, image_map["rows"] * _FIELD)
    picture = Image.new("RGBA", size, (0, 0, 0, 0))
    pen = ImageDraw.Draw(picture)
    for image in image_map["images"]:
        left = image["column"] * _FIELD
        top = image["row"] * _FIELD
        frame = (left + 1, top + 1, left + _FIELD - 2, top + _FIELD - 2)
        pen.rectangle(frame, fill=chosen.get(image["label"], GREY))
        tile = _tile(files.get(image["image_hash"], b""))
        if tile is not None:
            picture.paste(tile, (left + 1 + _FRAME, top + 1 + _FRAME))
        if not image["right"]:
            centre = (left + _FIELD - 2 - _DOT, top + 2 + _DOT)
            pen.circle(centre, _DOT, fill=_WRONG, outline="white", width=1)
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=_QUALITY)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def _tile(data: bytes) -> Image.Image | None:
    """Return the middle square of an image; None if the bytes are not an image."""
    small = small_picture(data, TILE_SOURCE) if data else None
    if small is None:
        return None
    edge = min(small.size)
    left = (small.width - edge) // 2
    top = (small.height - edge) // 2
    square = (left, top, left + edge, top + edge)
    return small.resize((_TILE, _TILE), Image.Resampling.LANCZOS, square)
