"""How probable it is that a label is wrong, from answers of models that have not seen the image.

A weak model makes mistakes, too, and a calibrated one says so: if it is sure in 90 % of cases, some
sure answers are wrong. Labels are in doubt where it contradicts them more often than its own
probabilities explain. So a share of wrong labels is fitted beside the sureness of the model, which
wrong labels have lowered, and Bayes' rule divides each contradiction between the two.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from imgpipe.models.names.arrays import Floats

#: What is expected before the answers are seen: one label in a hundred is wrong, and the model is
#: as sure as it says. The logarithm of the odds, and of the power that makes the model surer, have
#: this standard deviation.
_EXPECTED_WRONG: Final = 0.01
_SPREAD: Final = 1.0
_LEAST: Final = 1e-9  # probability that any class has


def wrong_label_probabilities(of_label: Floats, of_other: Floats, classes: int) -> Floats:
    """Return the probability that each label is wrong, [n].

    Args:
        of_label: Probability that a model gives the label, [n].
        of_other: Probability of the answered class where this is not the label, and else 0, [n].
        classes: Number of classes; what the others get is taken as evenly spread.
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
        surprise = np.square((parameters - [0, expected]) / _SPREAD).sum() / 2
        return float(surprise - np.log(label_and_error(parameters)[0]).sum())

    probability, error = label_and_error(minimize(cost, [0, expected], method="Nelder-Mead").x)
    return np.asarray(error / probability)
