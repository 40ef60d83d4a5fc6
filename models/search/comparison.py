"""Compares networks with the heads that they started from, on the images that judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from typing_extensions import TypedDict

from imgpipe.models.head.answers import Answers, better, standard_error
from imgpipe.models.head.combination import Combination, best_combination


class ComparisonFigures(TypedDict):
    """The fields of `Tried` that compare a network with the head."""

    accuracy: float
    gain: float
    standard_error: float
    weight: float
    kept: bool


class Comparison(NamedTuple):
    """How networks are combined with heads, and whether this is better than the heads alone."""

    combination: Combination
    answers: list[Answers]  # combined answers of each part that judges
    figures: ComparisonFigures


def compare(heads: Sequence[Answers], networks: Sequence[Answers]) -> Comparison:
    """Combine networks with heads, and compare the result with the heads alone.

    One weight is chosen for all parts, on their images together.

    Args:
        heads: Answers of the head of each part that judges.
        networks: Answers of the network of each part for the same images in the same order.
    """
    before = Answers.joined(heads)
    combination = best_combination(before, Answers.joined(networks))
    pairs = zip(heads, networks, strict=True)
    answers = [combination.answers(head, network) for head, network in pairs]
    after = Answers.joined(answers)
    gains = after.right.astype(float) - before.right
    figures: ComparisonFigures = {
        "accuracy": after.accuracy,
        "gain": float(gains.mean()),
        "standard_error": standard_error(gains, before.groups),
        "weight": combination.weight,
        "kept": better(after.scores(), before.scores()),
    }
    return Comparison(combination, answers, figures)
