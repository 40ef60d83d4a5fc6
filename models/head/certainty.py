"""How certain a figure is when images come in families, such as the frames of one film.

The images of a family are mostly right or wrong together, so that ten frames of a film say little
more than one. Every interval, and every comparison of two models on the same images, is computed
here. The folds, the blessing, `imgpipe compare` and the search read the same functions.
"""

from __future__ import annotations

import math
from typing import Annotated, Final

import numpy as np
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.models.arrays import Array, Flags

#: Probability with which an interval of 95 % misses the true value, and below which a difference
#: is more than chance.
CHANCE: Final = 0.05
_MOST_WANTED: Final = 1_000  # images or families that are asked for


class AccuracyFigures(TypedDict):
    """How many of some images are predicted correctly."""

    count: Annotated[int, "Number of images."]
    correct: Annotated[int, "Images that are predicted correctly."]
    accuracy: Annotated[float | None, "Share of correct predictions; null without an image."]
    ci95: Annotated[
        list[float],
        "95 % interval of the accuracy: the Wilson interval of as many independent images as tell "
        "as much as these, which come in families.",
    ]


class PairedAnswers(TypedDict):
    """Two models, a and b, on the same images."""

    images: Annotated[int, "Number of images that both predicted."]
    a: Annotated[float, "Accuracy of the first model on these images."]
    b: Annotated[float, "Accuracy of the second model on these images."]
    both: Annotated[int, "Images that both predict correctly."]
    only_a: Annotated[int, "Images that only the first model predicts correctly."]
    only_b: Annotated[int, "Images that only the second model predicts correctly."]
    neither: Annotated[int, "Images that both predict wrongly."]
    difference: Annotated[float, "Accuracy of the second model minus that of the first."]
    ci95: Annotated[
        list[float], "95 % interval of the difference, in which the images of a family count once."
    ]
    p_value: Annotated[
        float,
        "Probability of such a difference by chance: exact test that flips the signs of families. "
        "Where each image is a family, it is McNemar's exact test.",
    ]


def wilson(correct: float, count: float, chance: float = CHANCE) -> tuple[float, float]:
    """Compute the Wilson score interval of a share (Wilson 1927).

    Args:
        correct: Number of successes.
        count: Number of trials. The interval is (0, 1) when it is 0.
        chance: Probability that the interval misses the share.

    Examples:
        >>> low, high = wilson(93, 100)
        >>> print(f"{low:.3f} to {high:.3f}")
        0.863 to 0.966
    """
    if count <= 0:
        return 0.0, 1.0
    z = _quantile(chance)
    share = correct / count
    # Nothing is divided by the count, which may be tiny: few families of which one has nearly all
    # images tell less than a single image.
    centre = correct + z * z / 2
    spread = z * math.sqrt(correct * (1 - share) + z * z / 4)
    scale = count + z * z
    # Rounding errors would move the ends that are exactly 0 and 1.
    low = max(0.0, (centre - spread) / scale) if correct else 0.0
    high = min(1.0, (centre + spread) / scale) if correct < count else 1.0
    return float(low), float(high)


def _quantile(chance: float) -> float:
    """Return how many standard errors an interval of the normal distribution reaches."""
    from scipy.special import ndtri

    return float(ndtri(1 - chance / 2))


def standard_error(values: Array, families: Array | None = None) -> float:
    """Return the standard error of the mean of values [n].

    Args:
        values: One value for each image.
        families: Family of each image, [n]. Values of one family are not independent, so this is
            the cluster-robust estimate, with its correction for few families. Default: each image
            is a family by itself. A single family says nothing about others, so that the largest
            value stands for its error.
    """
    if families is None:
        return float(values.std() / np.sqrt(len(values)))
    _, family = np.unique(families, return_inverse=True)
    if not family.any():
        return float(np.abs(values).max())
    sums = np.bincount(family, weights=values - values.mean())
    few = len(sums) / (len(sums) - 1)
    return float(np.sqrt(few * (sums**2).sum()) / len(values))


def _independent_images(values: Array, families: Array) -> float:
    """Return how many independent images have a mean as uncertain as that of these values, [n].

    It is at most n, and n where no value differs from another.
    """
    spread = values.var(ddof=1) if len(values) > 1 else 0.0
    clustered = standard_error(values, families)
    return min(len(values), spread / clustered**2) if spread and clustered else len(values)


def effective_size(right: Flags, families: Array, chance: float = CHANCE) -> float:
    """Return how many independent images tell as much about an accuracy as these.

    The number follows from the cluster-robust variance, and is at most that of Kish (1965), which
    holds where the images of a family are all right or all wrong: few large families show too
    little of how much families differ. The variance is less certain, too, if there are few of them,
    so that a quantile of Student's distribution takes the place of the normal one (Korn and
    Graubard 1998).

    The number is n if each image is a family by itself, and 0 without an image or if all are of one
    family.
    """
    from scipy.special import stdtrit

    count = len(right)
    _, sizes = np.unique(families, return_counts=True)
    if len(sizes) == count:
        return count
    if len(sizes) == 1:
        return 0
    kish = count**2 / float((sizes**2).sum())
    size = min(kish, _independent_images(right.astype(np.float64), families))
    return float(size * (_quantile(chance) / stdtrit(kish - 1, 1 - chance / 2)) ** 2)


def interval(right: Flags, families: Array, chance: float = CHANCE) -> tuple[float, float]:
    """Compute the interval of an accuracy: Wilson's, of `effective_size` images.

    Args:
        right: Whether the label of each image was predicted, bool [n].
        families: Family of each image, [n].
        chance: Probability that the interval misses the accuracy.
    """
    size = effective_size(right, families, chance)
    return wilson(float(right.mean()) * size if size else 0, size, chance)


def wanted_size(accuracy: float, least: float, in_families: bool) -> int:
    """Return how many images, or equal families, have an interval that begins above a value.

    Args:
        accuracy: Accuracy of the answers, greater than `least`.
        least: The value.
        in_families: Whether families are counted, whose images are right or wrong together.
    """
    size = 1
    low = 0.0
    while low <= least and size < _MOST_WANTED:
        size += 1
        families = np.arange(size).repeat(2 if in_families else 1)
        independent = effective_size(np.ones(len(families), np.bool_), families)
        low = wilson(accuracy * independent, independent)[0]
    return size


def accuracy_figures(right: Flags, families: Array, chance: float = CHANCE) -> AccuracyFigures:
    """Return the accuracy on some images with its interval; see `interval`.

    Args:
        right: Whether the label of each image was predicted, bool [n].
        families: Family of each image, [n].
        chance: Probability that the interval misses the accuracy.

    Examples:
        >>> right = np.arange(100) < 93
        >>> figures = accuracy_figures(right, families=np.arange(100))
        >>> figures["accuracy"], [round(end, 3) for end in figures["ci95"]]
        (0.93, [0.863, 0.966])
    """
    count = len(right)
    correct = int(right.sum())
    return {
        "count": count,
        "correct": correct,
        "accuracy": correct / count if count else None,
        "ci95": list(interval(right, families, chance)),
    }


def paired_answers(a: Flags, b: Flags, families: Array) -> PairedAnswers:
    """Compare two models on the same images.

    Args:
        a: Whether the first model predicts the label of each image, bool [n].
        b: Whether the second model does, bool [n].
        families: Family of each image, [n].

    Raises:
        ZeroDivisionError: There is no image.

    Examples:
        >>> right = np.arange(100) < 93
        >>> pair = paired_answers(right, np.arange(100) < 95, families=np.arange(100))
        >>> pair["only_b"], pair["difference"], round(pair["p_value"], 3)
        (2, 0.02, 0.5)
    """
    images = len(a)
    only_a = int((a & ~b).sum())
    only_b = int((b & ~a).sum())
    both = int((a & b).sum())
    gains = b.astype(np.int64) - a
    return {
        "images": images,
        "a": (both + only_a) / images,
        "b": (both + only_b) / images,
        "both": both,
        "only_a": only_a,
        "only_b": only_b,
        "neither": images - both - only_a - only_b,
        "difference": (only_b - only_a) / images,
        "ci95": list(_difference(only_a, only_b, images, _independent_images(gains, families))),
        "p_value": _sign_flips(gains, families),
    }


def _difference(only_a: int, only_b: int, images: int, size: float) -> tuple[float, float]:
    """Compute the 95 % interval of the difference of two accuracies, b minus a.

    The interval of Bonett and Price (2012) also suits few images. All numbers of images become
    those of `size` independent images, which tell as much.
    """
    # One image is added to each of the two counts that differ, and two to the total. Without
    # that, the interval has no width where no image differs.
    count = size + 2
    gained = (only_b * size / images + 1) / count
    lost = (only_a * size / images + 1) / count
    spread = _quantile(CHANCE) * math.sqrt((gained + lost - (gained - lost) ** 2) / count)
    centre = gained - lost
    return float(max(-1.0, centre - spread)), float(min(1.0, centre + spread))


def _sign_flips(gains: Array, families: Array) -> float:
    """Return the probability that random signs of families make a sum of gains at least as large.

    Families on which the models agree say nothing about which one is better. If the models are
    equally good, each of the others may as well have gained what it has lost. So one family is
    never more than chance, however many images it has.

    A gain is -1, 0 or 1.
    """
    _, family = np.unique(families, return_inverse=True)
    sums = np.bincount(family, weights=gains).astype(np.int64)
    sizes, counts = np.unique(np.abs(sums[sums != 0]), return_counts=True)
    reach = int(sizes @ counts)
    if not reach:
        return 1.0
    # The distribution of the sum of numbers ±s is the inverse Fourier transform of the product of
    # their cosines.
    points = 2 * reach + 1
    angles = 2 * np.pi * np.arange(points) / points
    spectrum = np.ones(points)
    for size, number in zip(sizes.tolist(), counts.tolist(), strict=True):
        spectrum *= np.cos(angles * size) ** number
    chances = np.fft.ifft(spectrum).real
    sum_of_place = np.minimum(np.arange(points), points - np.arange(points))
    at_least = sum_of_place >= abs(int(sums.sum()))
    return float(np.clip(chances[at_least].sum(), 0.0, 1.0))
