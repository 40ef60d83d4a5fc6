"""Chooses how many augmented views help a head that is solved on stored features.

Views are made for the head alone. A search that trains layers below the head makes views of its own
and replaces the head, so no view is made for a head that a search will replace.
"""

import dataclasses
import json
from typing import Any

import apache_beam as beam
import tensorflow as tf

from imgpipe.components import records
from imgpipe.components.feature_bank.content import Plan
from imgpipe.components.feature_bank.extraction import extract, prefix_of
from imgpipe.models import feature_names as names
from imgpipe.models import solved_head
from imgpipe.models.bank import BANK_FILE, open_split
from imgpipe.models.file_patterns import matching
from imgpipe.models.folds import ENOUGH
from imgpipe.models.settings import ModelSettings
from imgpipe.models.solved_head import Judgement

#: Accuracy over the folds above which another view is not tried.
GOOD_ENOUGH = 0.99


def choose_views(
    pipeline: beam.Pipeline,
    plan: Plan,
    examples: str,
    features: str,
    facts: dict[str, Any],
    head: str,
    vocabulary: str,
) -> None:
    """Extract the images themselves, then one augmented view after the other, while views help.

    A view helps if heads that are solved on it too have a lower loss on training images that they
    did not see, by more than two standard errors. A view that does not help is removed from the
    artifact and stays in the store. No view is made if a search for a better network follows, and
    the head on the images is so inaccurate that a view could not make the search unnecessary.

    Args:
      pipeline: Beam pipeline of the first pass; the others have its runner and options.
      plan: Plan with the most views.
      examples: URI of the kept images.
      features: URI of the artifact that is written.
      facts: Content of bank.json, except for the counts and the number of views.
      head: JSON of the settings of the head.
      vocabulary: JSON list of class names.
    """
    settings, classes = ModelSettings.from_mapping(json.loads(head)), len(json.loads(vocabulary))
    best: Judgement | None = None
    for view in range(plan.views + 1):
        if view:
            pipeline = beam.Pipeline(runner=pipeline.runner, options=pipeline.options)
        one = dataclasses.replace(plan, first=view, views=view)
        extract(pipeline, one, examples, features, facts)
        facts = records.read_json(f"{features}/{BANK_FILE}")
        with open_split(features, names.TRAIN, classes) as rows:
            found = solved_head.judge(rows, classes, settings)
        if found is None or not (best is None or found.better_than(best)):
            break
        best = found
        facts["views_accuracy"] = [*facts.get("views_accuracy", []), float(found.right.mean())]
        if found.right.mean() >= GOOD_ENOUGH:
            break
        if settings.searches and not found.may_reach(ENOUGH):
            facts["views_note"] = (
                f"The head on the unchanged images reaches {found.right.mean():.3f} in "
                "cross-validation. The search for a better network makes views of its own."
            )
            break
    kept = max(0, len(facts.get("views_accuracy", [])) - 1)
    if kept < facts["views"]:
        for file in matching(f"{features}/Split-{names.TRAIN}/{prefix_of(facts['views'])}-*"):
            tf.io.gfile.remove(file)
    records.write_json(f"{features}/{BANK_FILE}", {**facts, "views": kept})
