"""What a probability means: temperature, and how probably a label is wrong.

A calibrated classifier that answers with a probability of 0.8 is right in 80 % of these cases. The
temperature is chosen on the held-out images that have judged the network. It is used only if those
of other folds lower the loss of these images by more than chance.
Temperature scaling and the expected calibration error follow Guo et al. 2017; the error uses 15
bins of equal width over the highest probability.

A weak model makes mistakes, too, and a calibrated one says so: if it is sure in 90 % of cases, some
sure answers are wrong. Labels are in doubt where it contradicts them more often than its own
probabilities explain. So a share of wrong labels is fitted beside the sureness of the model, which
wrong labels have lowered, and Bayes' rule divides each contradiction between the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final, Literal

import numpy as np
from typing_extensions import TypedDict

from imgpipe.models.arrays import Array, Flags, Floats, Integers, Names
from imgpipe.models.features.folds import FOLDS
from imgpipe.models.features.rows import blocks
from imgpipe.models.head.certainty import CHANCE, standard_error

BINS: Final = 15

#: The range of temperatures, and the standard deviation of the prior on the logarithm of the
#: temperature. The prior keeps the temperature near 1 when the validation split is small. Without
#: it, a split on which every answer is right would lead to the lowest temperature of the range.
LIMITS: Final = (0.25, 10.0)
_SPREAD: Final = 0.5
#: Logits that are used in each search step, so that the search takes seconds for thousands of
#: classes, too; see docs/benchmarks.md, "Constants of the code". Also the number of logits that are
#: converted at once, so that memory does not grow with the images.
_MOST_LOGITS: Final = 2_000_000
_MOST_JUDGED: Final = _MOST_LOGITS // FOLDS  # that tell whether a temperature is better
#: What is expected before the answers are seen: one label in a hundred is wrong, and the model is
#: as sure as it says. The logarithm of the odds, and of the power that makes the model surer, have
#: this standard deviation.
_EXPECTED_WRONG: Final = 0.01
_SPREAD_OF_RATES: Final = 1.0
_LEAST: Final = 1e-9  # probability that any class has
_AS_PROBABLY_RIGHT: Final = 0.5


class Calibration(TypedDict):
    """The calibration of the probabilities, and its effect on held-out images."""

    chosen_on: Annotated[
        Literal["validation", "folds"],
        "The images that judged: validation, with a fifth of train or without, or all folds.",
    ]
    temperature: Annotated[
        float,
        "Number by which the logits are divided; 1 if none lowers the loss by more than chance.",
    ]
    error_before: Annotated[float, "Expected calibration error without the division."]
    error_after: Annotated[float, "Expected calibration error with the division."]


def calibrate(
    logits: Floats,
    labels: Integers,
    chosen_on: Literal["validation", "folds"] = "validation",
    groups: Array | None = None,
) -> Calibration:
    """Chooses the temperature on held-out images.

    Args:
        logits: Logits of the held-out images, float [N, C].
        labels: Their label indices, integers [N], 0..C-1.
        chosen_on: What the images are, as it is recorded.
        groups: Group of each image, [N]; None if each is a group by itself.
    """
    groups = np.arange(len(labels)) if groups is None else groups
    is_better = _lowers_loss(logits, labels, groups)
    temperature = fit_temperature(logits, labels) if is_better else 1.0
    return {
        "chosen_on": chosen_on,
        "temperature": temperature,
        "error_before": confidence_error(*_answers(logits, labels, 1.0)),
        "error_after": confidence_error(*_answers(logits, labels, temperature)),
    }


def _lowers_loss(logits: Floats, labels: Integers, groups: Array) -> bool:
    """Whether temperatures of other groups lower the loss of images by more than chance.

    The temperature of all images is fitted to these, so that it always seems to lower their loss.
    """
    from scipy.special import ndtri

    step = -(-logits.size // _MOST_JUDGED) or 1
    logits = logits[::step]
    labels = labels[::step]
    names, number = np.unique(groups[::step], return_inverse=True)
    if len(names) < FOLDS:
        return False
    gains = np.empty(len(labels))
    for fold in range(FOLDS):
        held = number % FOLDS == fold
        temperature = fit_temperature(logits[~held], labels[~held])
        before = cross_entropies(logits[held], labels[held])
        gains[held] = before - cross_entropies(logits[held], labels[held], temperature)
    by_chance = float(ndtri(1 - CHANCE)) * standard_error(gains, number)
    return bool(gains.mean() > by_chance)


def _answers(logits: Floats, labels: Integers, temperature: float) -> tuple[Floats, Flags]:
    """Return the highest probability of each image, and whether it is that of its label."""
    top = np.empty(len(labels), logits.dtype)
    right = np.empty(len(labels), np.bool_)
    for part, block in _blocks(logits):
        probabilities = softmax(block / temperature)
        top[part] = probabilities.max(axis=1)
        right[part] = probabilities.argmax(axis=1) == labels[part]
    return top, right


def _blocks(logits: Floats) -> Iterator[tuple[slice, Floats]]:
    return blocks(logits, _MOST_LOGITS // max(1, logits.shape[1]))


def fit_temperature(logits: Floats, labels: Integers) -> float:
    """Return the most probable temperature of logits [N, C], by a search over its logarithm.

    A large validation split is sampled evenly, so that at most two million logits are used: with
    5,000 classes, these are the logits of 400 images.
    """
    from scipy.optimize import minimize_scalar

    step = -(-logits.size // _MOST_LOGITS) or 1
    logits = logits[::step]
    labels = labels[::step]

    # The negative logarithm of likelihood times prior. The prior of the logarithm is normal around
    # 0, which is a temperature of 1.
    def cost(logarithm: float) -> float:
        losses = cross_entropies(logits, labels, np.exp(logarithm))
        return float((logarithm / _SPREAD) ** 2 / 2 + losses.sum())

    minimum = minimize_scalar(
        cost, bounds=np.log(LIMITS), method="bounded", options={"xatol": 1e-8}
    )
    return float(np.exp(minimum.x))


def calibrated_losses(logits: Floats, labels: Integers) -> Floats:
    """Return the cross-entropy of each image, [N], with the most probable temperature."""
    return cross_entropies(logits, labels, fit_temperature(logits, labels))


def cross_entropies(logits: Floats, labels: Integers, temperature: float = 1.0) -> Floats:
    """Return the cross-entropy of each image, [N], with logits [N, C] over a temperature."""
    losses = np.empty(len(labels))
    for part, block in _blocks(logits):
        scaled = block.astype(np.float64) / temperature
        scaled -= scaled.max(axis=1, keepdims=True)
        of_labels = scaled[np.arange(len(block)), labels[part]]
        losses[part] = np.log(np.exp(scaled).sum(axis=1)) - of_labels
    return losses


def confidence_error(top: Floats, right: Flags) -> float:
    """Return the expected calibration error: the mean gap of confidence and accuracy, 0..1.

    The images are divided into bins of equal width by their highest probability, [N], and the gaps
    of the bins are weighted by their number of images.
    """
    bins = np.minimum((top * BINS).astype(int), BINS - 1)
    # Sums instead of means: the gap of a bin is weighted by its number of images in this way.
    parts = [(right[bins == index].sum(), top[bins == index].sum()) for index in range(BINS)]
    return float(sum(abs(float(a) - float(b)) for a, b in parts) / max(len(top), 1))


def error_by_chance(top: Floats) -> float:
    """Return the calibration error that correct probabilities would have on average, 0..1.

    The accuracy in a bin of few images differs from their probability by chance, even if the
    probability is right. On a few hundred images, this alone amounts to some hundredths.

    The number of right answers in a bin is taken to be binomial, with the mean probability of the
    bin. The mean absolute deviation of a binomial variable is de Moivre's formula.

    Args:
        top: Highest probability of each image, float [N], 0..1.
    """
    from scipy.stats import binom

    bin_indices = np.minimum((top * BINS).astype(int), BINS - 1)
    counts = np.bincount(bin_indices, minlength=BINS)
    means = np.bincount(bin_indices, weights=top, minlength=BINS) / np.maximum(counts, 1)
    means = np.minimum(means, 1.0)  # rounding may exceed 1
    above = np.floor(counts * means) + 1
    deviations = 2 * above * (1 - means) * binom.pmf(above, counts, means)
    return float(deviations.sum() / len(top))


def softmax(logits: Floats) -> Floats:
    """Return the softmax over the last axis: probabilities [N, C] from logits [N, C].

    Examples:
        >>> softmax(np.array([[2.0, 1.0, 0.0]])).round(3)
        array([[0.665, 0.245, 0.09 ]])
    """
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))  # at most 1, so none overflows
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def wrong_label_probabilities(
    of_label: Floats, of_other: Floats, classes: int, groups: Names
) -> Floats:
    """Return the probability that each label is wrong, [n].

    Who contradicts most of the other labels of a group, such as the frames of a film, too, does
    not know what it shows: such a label is at most as probably wrong as right.

    Args:
        of_label: Probability that a model gives the label, [n].
        of_other: Probability of the answered class where this is not the label, and else 0, [n].
        classes: Number of classes; what the others get is taken as evenly spread.
        groups: Name of the group of each image, [n].
    """
    from scipy.optimize import minimize

    of_label = np.clip(of_label, _LEAST, 1).astype(np.float64)
    others = np.maximum(classes - 1 - (of_other > 0), 0)
    of_rest = np.clip(1 - of_label - of_other, _LEAST, 1) / np.maximum(others, 1)
    expected = np.log(_EXPECTED_WRONG / (1 - _EXPECTED_WRONG))

    def label_and_error(parameters: Floats) -> tuple[Floats, Floats]:
        """Return how probable each label is, and the part of it in which the label is wrong."""
        power = np.exp(parameters[0])
        share = 1 / (1 + np.exp(-parameters[1]))
        own = of_label**power
        own = own / (own + of_other**power + others * of_rest**power)
        error = share * (1 - own) / (classes - 1)
        return (1 - share) * own + error, error

    def cost(parameters: Floats) -> float:
        surprise = np.square((parameters - [0, expected]) / _SPREAD_OF_RATES).sum() / 2
        return float(surprise - np.log(label_and_error(parameters)[0]).sum())

    probability, error = label_and_error(minimize(cost, [0, expected], method="Nelder-Mead").x)
    wrong = error / probability
    _, group = np.unique(groups, return_inverse=True)
    others = np.bincount(group)[group] - 1
    contradicted = np.bincount(group, of_other > 0)[group] - (of_other > 0)
    return np.where(2 * contradicted > others, np.minimum(wrong, _AS_PROBABLY_RIGHT), wrong)
