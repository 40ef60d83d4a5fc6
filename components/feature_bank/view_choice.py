"""Chooses how many augmented views help a head that is solved on stored features.

Views are made for the head alone. A search that trains layers below the head makes views of its own
and replaces the head, so no view is made for a head that a search will replace.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

import apache_beam as beam
import tensorflow as tf

from imgpipe.components.feature_bank.content import StoragePlan, bytes_of
from imgpipe.components.feature_bank.extraction import extract, prefix_of
from imgpipe.components.storage import records
from imgpipe.models import feature_names as names
from imgpipe.models.features.bank import BANK_FILE, read_rows
from imgpipe.models.features.folds import ENOUGH, judge_networks
from imgpipe.models.head import solved_head
from imgpipe.models.head.answers import Scores, better
from imgpipe.models.head.solved_head import Tried
from imgpipe.models.search.ways import FEWEST_CORRECTED, IDEAS
from imgpipe.models.settings import ModelSettings


def helpful_views(
    judged: Callable[[int], Scores | None],
    most: int,
    settings: ModelSettings,
    judging: int,
) -> list[Scores]:
    """Add augmented views one at a time, as long as each of them improves the head.

    A view improves the head if heads that also use this view are better on held-out training
    images by more than chance; see `answers.better`. No view is made if the head is accurate enough
    without it, so that no better network would be searched for either, or if a search will try
    networks and the head is so inaccurate that views could not make the search unnecessary.

    Args:
        judged: Makes the view with this number (0 is the image itself) and evaluates heads on all
            views so far. It returns None if there are too few images.
        most: Number of views besides the image itself.
        settings: Settings of the head.
        judging: Number of images on which a search would judge its networks.

    Returns:
        The evaluations of the heads, one for the images alone and one for each view that improves
        the head.
    """
    helpful: list[Scores] = []
    for view in range(most + 1):
        found = judged(view)
        if found is None or (helpful and not better(found, helpful[-1])):
            break
        helpful.append(found)
        replaced = _search_replaces(found, settings, judging)
        if replaced or found.accuracy >= ENOUGH:
            break
    return helpful


def _search_replaces(found: Scores, settings: ModelSettings, judging: int) -> bool:
    """Whether a search will try networks, even if views make the head better."""
    mistakes = (1 - found.accuracy) * judging
    tries = mistakes * max(idea.gain for idea in IDEAS) >= FEWEST_CORRECTED
    may_be_enough = found.accuracy + 2 * found.error >= ENOUGH
    return settings.searches and tries and not may_be_enough


def choose_views(
    pipeline: beam.Pipeline,
    plan: StoragePlan,
    examples: str,
    features: str,
    facts: dict[str, Any],
    images: Mapping[str, int],
    head: str,
    vocabulary: str,
) -> None:
    """Extract the images themselves, then one augmented view after the other, while views help.

    A view that does not help is removed from the artifact and stays in the store; see
    `helpful_views`.

    Args:
        pipeline: Beam pipeline of the first pass; the others have its runner and options.
        plan: Plan of the bank with the most views.
        examples: URI of the kept images.
        features: URI of the artifact that is written.
        facts: Content of bank.json, except for the counts and the number of views.
        images: Number of images by split.
        head: JSON of the settings of the head.
        vocabulary: JSON list of class names.
    """
    settings, classes = ModelSettings.from_mapping(json.loads(head)), len(json.loads(vocabulary))

    tried: list[Tried] = []

    def judged(view: int) -> Scores | None:
        nonlocal pipeline, facts
        if view:  # a Beam pipeline runs once
            pipeline = beam.Pipeline(runner=pipeline.runner, options=pipeline.options)
        one = dataclasses.replace(plan, first=view, views=view)
        extract(pipeline, one, examples, features, facts)
        facts = records.read_json(f"{features}/{BANK_FILE}")
        rows = read_rows(features, names.TRAIN, classes)
        found = solved_head.judge(rows, classes, settings)
        if found is None:
            return None
        tried.append(found)
        return found.best

    training, judging = (images.get(split, 0) for split in (names.TRAIN, names.VALIDATION))
    if judge_networks(training, judging):
        judging += training
    helpful = helpful_views(judged, plan.views, settings, judging)
    if helpful:
        tried[len(helpful) - 1].save(features)  # ImageTrainer need not compute it again
        facts["views_accuracy"] = [found.accuracy for found in helpful]
    kept = max(0, len(helpful) - 1)
    if kept < facts["views"]:
        prefix = prefix_of(facts["views"])
        for file in tf.io.gfile.glob(f"{features}/Split-{names.TRAIN}/{prefix}-*"):
            tf.io.gfile.remove(file)
    facts |= {"views": kept, "bytes": bytes_of(images, kept, plan.dim)}
    records.write_json(f"{features}/{BANK_FILE}", facts)
