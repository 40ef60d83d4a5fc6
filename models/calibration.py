"""Probabilities that mean what they say: temperature scaling, and when to say "unknown".

Both are chosen on the validation split. Temperature scaling after Guo et al. 2017; the expected
calibration error is theirs too, over 15 bins of equal width of the highest probability.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

BINS: Final = 15

#: Range of temperatures, and of how far from 1 a small validation split may move it: a standard
#: deviation of the logarithm, as a prior. Without it a faultless split would ask for certainty.
_LIMITS: Final = (0.25, 10.0)
_SPREAD: Final = 0.5
_STEPS: Final = 60
_MOST_LOGITS: Final = 2_000_000  # looked at in each step; 25 million took most of a minute in all

Floats = npt.NDArray[np.floating[Any]]
Integers = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Calibration:
    """The temperature and threshold that were chosen, and their effect on validation.

    Attributes:
        temperature: Divisor of the logits; 1 leaves them as they are.
        error_before: Expected calibration error without the temperature, 0..1.
        error_after: Expected calibration error with the temperature, 0..1.
        unknown_below: An image is "unknown" when its highest probability is below this; 0: never.
        unknown_share: Share of the validation images that are "unknown".
        known_accuracy: Accuracy on the other images; None when all are "unknown".
    """

    temperature: float = 1.0
    error_before: float = 0.0
    error_after: float = 0.0
    unknown_below: float = 0.0
    unknown_share: float = 0.0
    known_accuracy: float | None = None

    def facts(self) -> dict[str, Any]:
        """Returns the values as a mapping that can be written as JSON."""
        return asdict(self)


def calibrate(
    logits: Floats, labels: Integers, temperature: bool, unknown_rate: float
) -> Calibration:
    """Chooses the temperature and the threshold on the validation split.

    Args:
        logits: [N, C].
        labels: [N], 0..C-1.
        temperature: Whether to fit a temperature.
        unknown_rate: Largest share of images whose label may become "unknown", 0..1.
    """
    chosen = fit_temperature(logits, labels) if temperature else 1.0
    probabilities = softmax(logits / chosen)
    top = probabilities.max(axis=1)
    below = threshold(top, unknown_rate)
    known = top >= below
    right = probabilities.argmax(axis=1) == labels
    return Calibration(
        float(chosen),
        calibration_error(softmax(logits), labels),
        calibration_error(probabilities, labels),
        below,
        float(1 - known.mean()),
        float(right[known].mean()) if known.any() else None,
    )


def fit_temperature(logits: Floats, labels: Integers) -> float:
    """Returns the most probable temperature, by golden-section search over its logarithm.

    Of many images of many classes, some spread evenly are looked at: 400 images of 5,000 classes.
    """
    step = -(-logits.size // _MOST_LOGITS) or 1
    logits, labels = logits[::step], labels[::step]
    low, high = np.log(_LIMITS)
    ratio = (np.sqrt(5) - 1) / 2

    def cost(logarithm: float) -> float:
        shifted = logits.astype(np.float64) / np.exp(logarithm)
        shifted -= shifted.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(shifted).sum(axis=1))
        likelihood = (shifted[np.arange(len(labels)), labels] - log_sum).sum()
        return float((logarithm / _SPREAD) ** 2 / 2 - likelihood)

    for _ in range(_STEPS):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if cost(left) <= cost(right):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def calibration_error(probabilities: Floats, labels: Integers, bins: int = BINS) -> float:
    """Returns the mean gap between confidence and accuracy over bins of confidence, 0..1."""
    right = probabilities.argmax(axis=1) == labels
    return confidence_error(probabilities.max(axis=1), right, bins)


def confidence_error(top: Floats, right: npt.NDArray[np.bool_], bins: int = BINS) -> float:
    """As `calibration_error`, of highest probabilities [N] and whether each answer is right."""
    bin_indices = np.minimum((top * bins).astype(int), bins - 1)
    gaps = [
        abs(float(right[bin_indices == one].sum()) - float(top[bin_indices == one].sum()))
        for one in range(bins)
    ]
    return float(sum(gaps) / len(top))


def threshold(top: Floats, rate: float) -> float:
    """Returns the highest threshold that at most `rate` of the values [N] lie below."""
    allowed = int(rate * len(top))
    return float(np.sort(top)[allowed]) if allowed else 0.0


def softmax(logits: Floats) -> Floats:
    """Returns the softmax over the last axis: probabilities [N, C] from logits [N, C]."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))
