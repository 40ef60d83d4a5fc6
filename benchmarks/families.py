"""How often intervals and refusals are wrong, with answers that are drawn.

    python -m benchmarks.families [--draws 2000]

Tables are printed, the first three beside what would follow if every image were independent:

* how often the 95 % interval of an accuracy of 0.9 holds it, for families of several sizes and for
  families whose answers are more or less alike (their correlation, ICC);
* how often a model that is as good as the last version is refused, if a tenth of the families are
  gained or lost as a whole;
* how often a model is refused because of its classes, where the recall of a class varies (a beta
  distribution of concentration 8) and five images of each were held out;
* how often a model of 0.85 is blessed at a threshold of 0.9, and one of 0.95 refused, for the
  widest interval that may decide (`WIDEST` of the rules) and for others.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Final

import numpy as np
from scipy.stats import binom

from imgpipe.components.common import row_files
from imgpipe.components.common.answer_table import AnswerTable
from imgpipe.components.common.image_row import ImageRow
from imgpipe.components.common.row_files import ImageColumns
from imgpipe.components.image_evaluator.evidence import WIDEST, Evidence
from imgpipe.components.image_evaluator.rules import SLACK, decide
from imgpipe.components.image_evaluator.settings import EvaluateSettings
from imgpipe.models import names
from imgpipe.models.arrays import Flags
from imgpipe.models.head.certainty import CHANCE, interval, paired_answers, wilson

_ACCURACY: Final = 0.9
_ALIKE: Final = (1.0, 0.5, 0.2)
_SIZES: Final[dict[str, list[int]]] = {
    "200 single images": [1] * 200,
    "20 of 10": [10] * 20,
    "100 single images and 1 of 100": [1] * 100 + [100],
    "100 single images and 5 of 40": [1] * 100 + [40] * 5,
    "60 of 120 / rank": [max(1, round(120 / rank)) for rank in range(1, 61)],
    "50 single images and 10 of 20": [1] * 50 + [20] * 10,
}
_PAIRED: Final[dict[str, list[int]]] = {
    "400 single images": [1] * 400,
    "100 of 4": [4] * 100,
    "40 of 10": [10] * 40,
    "200 single images and 10 of 20": [1] * 200 + [20] * 10,
}
_CLASSES: Final = (10, 100, 500)
_INDEPENDENT: Final = (10, 20, 50, 100, 500)
_HELD_OUT: Final = 5
_CONCENTRATION: Final = 8


def answers(random: np.random.Generator, sizes: Sequence[int], alike: float) -> Flags:
    """Draw which images are right, bool [n], with this correlation inside of families."""
    shares = (random.random(len(sizes)) < _ACCURACY).astype(float)
    if alike < 1:
        scale = (1 - alike) / alike
        shares = random.beta(_ACCURACY * scale, (1 - _ACCURACY) * scale, len(sizes))
    return random.random(sum(sizes)) < np.repeat(shares, sizes)


def coverage(sizes: Sequence[int], alike: float, draws: int) -> tuple[float, float]:
    """Return how often the interval holds, with families and as if all images were independent."""
    random = np.random.default_rng(0)
    images = np.arange(sum(sizes))
    families = np.repeat(np.arange(len(sizes)), sizes)
    held = np.zeros(2)
    for _ in range(draws):
        right = answers(random, sizes, alike)
        for place, groups in enumerate((families, images)):
            low, high = interval(right, groups)
            held[place] += low <= _ACCURACY <= high
    return tuple(held / draws)


def refusals(sizes: Sequence[int], draws: int) -> tuple[float, float]:
    """Return how often an equally good model is refused, with families and without."""
    random = np.random.default_rng(0)
    images = np.arange(sum(sizes))
    families = np.repeat(np.arange(len(sizes)), sizes)
    refused = np.zeros(2)
    for _ in range(draws):
        gains = np.where(random.random(len(sizes)) < 0.1, random.choice([-1, 1], len(sizes)), 0)
        gained = np.repeat(gains, sizes)
        for place, groups in enumerate((families, images)):
            pair = paired_answers(gained <= 0, gained >= 0, groups)
            refused[place] += pair["difference"] < -0.01 and pair["p_value"] < CHANCE
    return tuple(refused / draws)


def refused_classes(classes: int, draws: int) -> float:
    """Return how often a model is refused because of a class."""
    random = np.random.default_rng(0)
    vocabulary = [f"class {label}" for label in range(classes)]
    settings = EvaluateSettings(threshold=_ACCURACY)
    refused = 0
    labels = np.repeat(np.arange(classes), _HELD_OUT)
    rows = [
        ImageRow(f"{number}", label_index=label, split=names.VALIDATION, image_hash=f"{number}")
        for number, label in enumerate(labels.tolist())
    ]
    images = ImageColumns.of(row_files.as_table(rows))
    for _ in range(draws):
        mean = _ACCURACY * _CONCENTRATION
        recalls = random.beta(mean, _CONCENTRATION - mean, classes)
        right = random.random(len(labels)) < recalls[labels]
        others = (labels + random.integers(1, classes, len(labels))) % classes
        predicted = np.where(right, labels, others)
        sure = np.full(len(labels), 0.9)
        answers = {"predicted": predicted, "confidence": sure, "of_label": sure}
        table = AnswerTable.answered(vocabulary, images, answers)
        refused += "class_recall" in decide(Evidence(settings, table))["failed"]
    return refused / draws


def decisions(accuracy: float, images: int, widest: float) -> float:
    """Return how often a model of an accuracy is blessed, of independent images (exact)."""
    counts = np.arange(images + 1)
    is_blessed = [
        count >= _ACCURACY * images - SLACK and wilson(count, images)[0] > _ACCURACY - widest
        for count in counts.tolist()
    ]
    return float(binom.pmf(counts, images, accuracy)[is_blessed].sum())


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=2000, help="Draws of each row.")
    draws = parser.parse_args().draws
    print("share of the draws in which the 95 % interval holds (as if all were independent)")
    for name, sizes in _SIZES.items():
        cells = [coverage(sizes, alike, draws) for alike in _ALIKE]
        print(f"  {name:32}", "  ".join(f"{one:.3f} ({other:.3f})" for one, other in cells))
    print("equally good models that are refused (as if all were independent)")
    for name, sizes in _PAIRED.items():
        with_families, without = refusals(sizes, draws)
        print(f"  {name:32} {with_families:.3f} ({without:.3f})")
    print("models that are refused because of a class")
    for classes in _CLASSES:
        print(f"  {classes:4} classes {refused_classes(classes, draws // 20):29.3f}")
    print("models of 0.85 that are blessed at 0.9 / models of 0.95 that are refused")
    print("  widest", "".join(f"{images:>15} images" for images in _INDEPENDENT))
    for widest in (0.1, WIDEST, 0.2, 1.0):
        shares = [
            f"{decisions(0.85, images, widest):.3f} / {1 - decisions(0.95, images, widest):.3f}"
            for images in _INDEPENDENT
        ]
        print(f"  {widest:6}", "".join(f"{share:>22}" for share in shares))


if __name__ == "__main__":
    main()
