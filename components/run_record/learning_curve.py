"""What more training images would bring, from the learning curve of the solved head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from imgpipe.models.head.solved_head import CurvePoint, Solution

#: Farthest number of images that is spoken of, as a multiple of the largest one measured. Beyond
#: two doublings, the points say little.
_FARTHEST = 4
_DIGITS = 2  # of the number of images


class PowerLaw(NamedTuple):
    """The curve `limit - scale * images ** -power` (Cortes et al. 1993)."""

    limit: float
    scale: float
    power: float

    def accuracy(self, images: float) -> float:
        """Return the accuracy with so many training images."""
        return self.limit - self.scale * images**-self.power

    def images(self, accuracy: float) -> float:
        """Return the number of training images with this accuracy, which is below the limit."""
        return float(((self.limit - accuracy) / self.scale) ** (-1 / self.power))


def power_law(solution: Solution) -> PowerLaw | None:
    """Return the power law through the last three points, each with twice the images.

    Returns:
        The curve; None if it cannot be said: the last gain may be chance, or the points do not bend
        as such a curve does.
    """
    curve = solution["learning_curve"] or []
    error = solution["gain_error"]
    if len(curve) < 3 or error is None:
        return None
    first, middle, last = curve[-3:]
    earlier = middle["accuracy"] - first["accuracy"]
    gained = last["accuracy"] - middle["accuracy"]
    if gained <= error or gained >= earlier or last["accuracy"] >= 1:
        return None
    shrinking = gained / earlier  # factor of the gain from one doubling to the next
    power = -math.log2(shrinking)
    left = gained * shrinking / (1 - shrinking)  # of all doublings to come
    wrong = 1 - last["accuracy"]
    if left > wrong:  # no accuracy is above 1, so the share of mistakes falls by a power law
        power = math.log2((1 - middle["accuracy"]) / wrong)
        left = wrong
    return PowerLaw(last["accuracy"] + left, left * last["images"] ** power, power)


def images_for(solution: Solution, accuracy: float) -> int | None:
    """Return about how many training images would reach an accuracy.

    Returns:
        The number with two digits; None if the curve reaches the accuracy already, or too far from
        the images that were measured.
    """
    law = power_law(solution)
    curve: Sequence[CurvePoint] = solution["learning_curve"] or []
    if law is None or not curve[-1]["accuracy"] < accuracy < law.limit:
        return None
    images = law.images(accuracy)
    if images > _FARTHEST * curve[-1]["images"]:
        return None
    step = 10 ** (math.floor(math.log10(images)) + 1 - _DIGITS)
    return math.ceil(images / step) * step


def farthest(solution: Solution) -> int:
    """Return the largest number of images for which the curve is drawn beyond its points."""
    curve = solution["learning_curve"] or []
    return 3 * curve[-1]["images"] if curve else 0
