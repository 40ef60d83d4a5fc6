"""The combined answer of a head and of a network: the weighted geometric mean of what both say.

Both are calibrated first. Logits over a temperature are the logarithms of probabilities, up to a
number that is the same for all classes of an image, so that a weighted sum of them gives the logits
of the geometric mean. Such a mean is a logarithmic opinion pool (Genest and Zidek 1986).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from imgpipe.models.head.answers import Answers
from imgpipe.models.head.calibration import fit_temperature

#: The weights of the network that are tried; that of the head is the rest. 1 is the network alone.
WEIGHTS: Final = (0.3, 0.5, 0.7, 1.0)
#: Decimals of a log loss that count. The network alone computes fewer layers for each request than
#: both together, so that it is used if the others are not better by this.
_DECIMALS: Final = 3


@dataclass(frozen=True)
class Combination:
    """How the logits of a head and of a network are added.

    Attributes:
        weight: Weight of the network in the geometric mean, 0..1; that of the head is the rest.
        head_factor: Number by which the logits of the head are multiplied: its weight over its
            temperature.
        network_factor: The same of the network.
    """

    weight: float
    head_factor: float
    network_factor: float

    def answers(self, head: Answers, network: Answers) -> Answers:
        """Return the combined answers for the same images in the same order."""
        of_head = self.head_factor * head.logits
        of_network = self.network_factor * network.logits
        return replace(network, logits=of_head + of_network)


#: The network alone, as it answers.
ALONE: Final = Combination(1.0, 0.0, 1.0)


def best_combination(head: Answers, network: Answers) -> Combination:
    """Return the combination with the lowest log loss after calibration.

    Args:
        head: Answers of the head for the images that judge.
        network: Answers of the network for the same images in the same order.
    """
    of_head = _temperature(head)
    of_network = _temperature(network)
    tried = [Combination(one, (1 - one) / of_head, one / of_network) for one in WEIGHTS]

    def cost(combination: Combination) -> tuple[float, float]:
        losses = combination.answers(head, network).scores().losses
        return round(float(losses.mean()), _DECIMALS), -combination.weight

    best = min(tried, key=cost)
    return ALONE if best.weight == ALONE.weight else best


def _temperature(answers: Answers) -> float:
    """Return the most probable temperature of answers."""
    known = answers.answerable
    return fit_temperature(answers.logits[known], answers.labels[known])
