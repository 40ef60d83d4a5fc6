"""What more training images would bring, from the learning curve of the solved head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from imgpipe.components.image_evaluator.decision import Decision
    from imgpipe.models.head.solved_head import CurvePoint, Solution
    from imgpipe.models.training.history import History

#: Farthest number of images that is spoken of, as a multiple of the largest one measured. Beyond
#: two doublings, the points say little.
_FARTHEST = 4
_DIGITS = 2  # of the number of images


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

    Its slope is that of the last three points, or of the last two where the curve flattens.

    Returns:
        The curve; None if it cannot be said, because the last gain may be chance.
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


def images_for(solution: Solution, accuracy: float) -> int | None:
    """Return about how many training images would reach an accuracy.

    Returns:
        The number with two digits; None if the curve reaches the accuracy already, or too far from
        the images that were measured.
    """
    law = power_law(solution)
    curve: Sequence[CurvePoint] = solution["learning_curve"] or []
    if law is None or not curve[-1]["accuracy"] < accuracy < 1:
        return None
    images = law.images(accuracy)
    if images > _FARTHEST * curve[-1]["images"]:
        return None
    step = 10 ** (math.floor(math.log10(images)) + 1 - _DIGITS)
    return math.ceil(images / step) * step


def images_to_threshold(training: History | None, gate: Decision | None) -> int | None:
    """Return about how many training images would reach a threshold that was missed.

    Returns:
        As `images_for`; also None if the threshold was reached, or if the model is not the solved
        head, to which the learning curve belongs.
    """
    if training is None or gate is None or "threshold" not in gate["failed"]:
        return None
    if training["solution"] is None or training["fine_tune"] is not None:
        return None
    return images_for(training["solution"], gate["threshold"])
