"""Accuracy of heads for images of several sizes, the size that folds choose, and its cost.

    python -m benchmarks.image_sizes [SIZE …] [--sets SET …] [--images N] [--least-side PIXELS]
                                     [--draws N]

Heads are solved and tested for three splits, as in `benchmarks.transfer`. For each split, folds of
the training images choose the features at the first size, and then whether a larger size is used,
as a run does. The test images have no part in this. With `--draws`, random halves and nine tenths
of the images tell how often a first part of them misses a larger size that all of them would
choose. Afterwards, the served signature of a model of
each size classifies one photograph in this process; the sizes take turns.
"""

from __future__ import annotations

import io
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image

from benchmarks import common
from benchmarks.common import Figure
from benchmarks.load import noise
from benchmarks.transfer import SETS, SPLITS, GroupedImages
from imgpipe.models import names
from imgpipe.models.export.saved_model import export
from imgpipe.models.features import folds
from imgpipe.models.features.bank import BankRows
from imgpipe.models.files.described_files import SERVING_DEFAULT
from imgpipe.models.head import feature_choice
from imgpipe.models.head.solved_head import HeadSolver
from imgpipe.models.network.classifier import build_classifier
from imgpipe.models.settings.model import COVARIANCE, ModelSettings

_PHOTOGRAPH_SIDE: Final = 500  # pixels of the photograph that is classified
_CLASSES: Final = ("cat", "dog", "paper", "rock", "scissors")


class TestedSizes(NamedTuple):
    """Accuracies of heads for images of several sizes, by size, and what folds chose.

    Attributes:
        in_folds: Accuracy over the folds of the training images.
        in_test: Accuracy on the test images.
        chosen: The size that the folds chose.
    """

    in_folds: Mapping[int, float]
    in_test: Mapping[int, float]
    chosen: int


def tested_sizes(
    rows: Mapping[int, BankRows], split: int, classes: int, usual_side: int
) -> TestedSizes:
    """Choose a size by the training images of a split, and test heads for all sizes.

    Args:
        rows: Features of all images by size, from the smallest on.
        split: Number of the split.
        classes: Number of classes.
        usual_side: Median of the longer sides of the images. No larger size is chosen.
    """
    usual, *larger = rows
    held = folds.assign(rows[usual].labels, rows[usual].groups, SPLITS) == split
    train = {size: rows[size].select(~held) for size in rows}
    settings = ModelSettings(image_size=usual)
    choice = feature_choice.choose_blocks(train[usual], classes, settings, len(train[usual]))
    for size in larger:
        if size > usual_side or not choice.size_may_help:
            break
        part = feature_choice.first_part(train[choice.chosen.image_size])
        if part is not None:
            same = np.isin(train[size].hashes, part.hashes)
            larger_part = train[size].select(same)
            if not feature_choice.may_be_better(choice, part, larger_part, size):
                break
        choice = feature_choice.choose_size(choice, train[size], size)
    in_folds = {}
    in_test = {}
    for size in rows:
        learned = train[size]
        test = rows[size].select(held)
        if choice.chosen.features != COVARIANCE:
            learned = learned.block(0)
            test = test.block(0)
        solver = HeadSolver(learned, classes, settings)
        judgement = solver.judge()
        in_folds[size] = judgement.scores.accuracy if judgement else float("nan")
        head = solver.solve(learning_curve=False)
        answers = head.linear.log_probabilities(test.features).argmax(axis=1)
        in_test[size] = float((answers == test.labels).mean())
    return TestedSizes(in_folds, in_test, choice.chosen.image_size)


def first_looks(rows: Mapping[int, BankRows], classes: int, draws: int) -> str:
    """Return how often a first part agrees with all images about the second size."""
    usual, size = sorted(rows)[:2]
    settings = ModelSettings(image_size=usual)
    groups = np.unique(rows[usual].groups)
    agreed = {True: [0, 0], False: [0, 0]}  # by whether all images choose it: agreed, all draws
    for draw in range(draws):
        share = 0.5 if draw % 2 else 0.9
        drawn = np.random.default_rng(draw).permutation(groups)[: int(len(groups) * share)]
        here = np.isin(rows[usual].groups, drawn)
        images = {side: rows[side].select(here) for side in (usual, size)}
        count = len(images[usual])
        choice = feature_choice.choose_blocks(images[usual], classes, settings, count)
        part = feature_choice.first_part(images[usual])
        if part is None or not choice.size_may_help:
            continue
        larger = images[size].select(np.isin(images[size].hashes, part.hashes))
        goes_on = feature_choice.may_be_better(choice, part, larger, size)
        whole = feature_choice.choose_size(choice, images[size], size)
        is_chosen = whole.chosen.image_size == size
        agreed[is_chosen][0] += goes_on == is_chosen
        agreed[is_chosen][1] += 1
    return (
        f"{size} pixels: a part goes on in {agreed[True][0]} of {agreed[True][1]} draws in which "
        f"all images choose them, and stops in {agreed[False][0]} of {agreed[False][1]} others"
    )


def accuracies(grouped: GroupedImages, sizes: Sequence[int], draws: int) -> str:
    """Return what to print of a set."""
    rows = {}
    extraction = {}
    for size in sizes:
        settings = ModelSettings(features=COVARIANCE, image_size=size)
        rows[size], extraction[size] = grouped.rows(settings)
    images = grouped.images
    sides = [max(Image.open(io.BytesIO(image)).size) for image in images.images]
    usual_side = int(np.median(sides))
    splits = [tested_sizes(rows, split, images.classes, usual_side) for split in range(SPLITS)]
    by_size = [
        f"{size} pixels: folds {statistics.mean(tested.in_folds[size] for tested in splits):.4f}, "
        f"test {statistics.mean(tested.in_test[size] for tested in splits):.4f}, "
        f"features {1000 * extraction[size] / len(images):.0f} ms of a processor an image"
        for size in sizes
    ]
    chosen = ", ".join(str(tested.chosen) for tested in splits)
    test = statistics.mean(tested.in_test[tested.chosen] for tested in splits)
    groups = len(np.unique(grouped.groups))
    looks = f"; {first_looks(rows, images.classes, draws)}" if draws else ""
    return (
        f"{len(images)} images in {groups} groups, usual side {usual_side}; {'; '.join(by_size)}; "
        f"chosen in the splits {chosen}: test {test:.4f}{looks}"
    )


def request_costs(work: Path, sizes: Sequence[int], rounds: int) -> dict[int, float]:
    """Return the median of processor milliseconds of a request with one photograph, by size."""
    import tensorflow as tf

    served = {}
    for size in sizes:
        settings = ModelSettings(features=COVARIANCE, image_size=size)
        classifier = build_classifier(None, _CLASSES, settings)
        export(classifier, str(work / str(size)))
        served[size] = tf.saved_model.load(str(work / str(size))).signatures[SERVING_DEFAULT]
    photograph = tf.constant([noise(_PHOTOGRAPH_SIDE, 0)])
    taken: dict[int, list[float]] = {size: [] for size in sizes}
    for number in range(rounds + 1):
        for size in sizes:
            started = time.process_time()
            served[size](**{names.IMAGE_BYTES: photograph})
            if number:  # the first request compiles the graph
                taken[size].append(1000 * (time.process_time() - started))
    return {size: statistics.median(taken[size]) for size in sizes}


def main() -> None:
    """Measure the sets, then the requests, and print a line for each."""
    parser = common.parser(__doc__)
    settings = ModelSettings()
    usual = (settings.size, *settings.larger_sizes)
    parser.add_argument("sizes", nargs="*", type=int, default=usual, metavar="SIZE")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=tuple(SETS), metavar="SET")
    parser.add_argument("--images", type=int, default=600, help="images of a set at most")
    parser.add_argument(
        "--least-side", type=int, default=0, metavar="PIXELS", help="only images of this side"
    )
    parser.add_argument("--draws", type=int, default=0, help="draws of a part of the images")
    parser.add_argument("--rounds", type=int, default=100, help="requests of each size")
    options = parser.parse_args()
    sizes = sorted(options.sizes)
    print(f"machine: {common.machine()}")
    figures = []
    for name in options.sets:
        folder = common.data_set(options.data, name)
        grouped = GroupedImages.of(folder, SETS[name], options.images, options.least_side)
        figures.append(Figure(name, accuracies(grouped, sizes, options.draws)))
        print(f"{name}: {figures[-1].value}", flush=True)
    with common.workplace(options.work) as work:
        costs = request_costs(work, sizes, options.rounds)
    for size, milliseconds in costs.items():
        ratio = milliseconds / costs[sizes[0]]
        value = f"{milliseconds:.1f} ms of a processor, {ratio:.2f} times that of {sizes[0]}"
        figures.append(Figure(f"request, {size} pixels", value))
    common.finish(figures)


if __name__ == "__main__":
    main()
