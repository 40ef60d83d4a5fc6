"""Extraction of features by Beam: what the store lacks is computed, and everything is written.

Augmented views are made for a head that is solved alone, as long as they make it better. A search
that trains layers below the head makes views of its own and replaces the head, so no view is made
for a head that a search will replace.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf

from imgpipe.components.beam import beam_io
from imgpipe.components.feature_bank.content import StoragePlan, bytes_of, shared_extractor
from imgpipe.components.feature_bank.store import FeatureStore, record_key
from imgpipe.components.storage import records
from imgpipe.models import feature_names as names
from imgpipe.models import progress
from imgpipe.models.features.bank import BANK_FILE, read_rows
from imgpipe.models.features.folds import ENOUGH, judge_networks
from imgpipe.models.head import solved_head
from imgpipe.models.head.answers import Scores, better
from imgpipe.models.search.ways import FEWEST_CORRECTED, IDEAS
from imgpipe.models.settings import ModelSettings

#: A batch has at most 256 images and 32 MiB, or one larger image. That is enough for decoding to
#: overlap the forward pass, and limits the memory for large images.
_BATCH_BYTES = 32 << 20
_MIN_BYTES = _BATCH_BYTES // 256  # smallest size that an image counts for


class ExtractFeatures(beam.DoFn):
    """Maps batches of serialised image Examples to (split, feature record) pairs.

    The tagged output ``counts`` has (computed, reused) pairs.
    """

    COUNTS = "counts"

    def __init__(self, plan: StoragePlan) -> None:
        self._plan = plan

    def setup(self) -> None:
        """Create the store and the extractor, which builds its model on first use."""
        self._extractor = shared_extractor(self._plan.network)
        self._view_key = functools.cache(self._extractor.key)  # asks for versions of packages
        self._store = FeatureStore(self._plan.store)

    def process(self, batch: list[bytes]) -> Iterator[Any]:
        """Look up every image and view, compute and store what is missing, and emit all."""
        examples = [tf.train.Example.FromString(record) for record in batch]
        if not self._plan.dim:
            yield beam.pvalue.TaggedOutput(self.COUNTS, (0, 0))
            for example in examples:
                yield _record(example, 0, np.empty(0, np.float16))
            return
        vectors, computed = self._vectors(examples)
        if not self._plan.first:  # later passes add views of the same images
            progress.advance(len(examples), "images")
        yield beam.pvalue.TaggedOutput(self.COUNTS, (computed, len(vectors) - computed))
        for (i, view), vector in vectors.items():
            yield _record(examples[i], view, vector)

    def _vectors(
        self, examples: list[tf.train.Example]
    ) -> tuple[dict[tuple[int, int], np.ndarray], int]:
        """Features by (index in the batch, view), and the number of views that were computed."""
        hashes = [records.content_hash(example) for example in examples]
        keys = {
            (i, view): record_key(hashes[i], self._view_key(view))
            for i, example in enumerate(examples)
            for view in self._plan.views_of(records.text(example, names.SPLIT))
        }
        stored = self._store.get(list(keys.values()), self._plan.dim)
        found = {pair: stored[key] for pair, key in keys.items() if key in stored}
        missing: dict[int, list[int]] = {}
        for i, view in keys.keys() - found.keys():
            missing.setdefault(i, []).append(view)
        if missing:
            todo = {i: sorted(views) for i, views in sorted(missing.items())}
            computed = self._extractor.extract(
                [records.raw(examples[i], names.IMAGE_BYTES) for i in todo],
                [hashes[i] for i in todo],
                list(todo.values()),
            )
            fresh = {
                (i, view): row
                for (i, views), rows in zip(todo.items(), computed, strict=True)
                for view, row in zip(views, rows, strict=True)
            }
            self._store.put({keys[pair]: row for pair, row in fresh.items()})
            found |= fresh
        return found, sum(map(len, missing.values()))


def _weight(record: bytes) -> int:
    """Bytes that a record counts for in a batch."""
    return max(len(record), _MIN_BYTES)


def _record(example: tf.train.Example, view: int, vector: np.ndarray) -> tuple[str, bytes]:
    split = records.text(example, names.SPLIT)
    values: dict[str, records.Value] = {
        names.SPLIT: split,
        names.VIEW: view,
        names.IMAGE_HASH: records.raw(example, names.IMAGE_HASH),
        names.PATH: records.raw(example, names.PATH),
        names.GROUP: records.raw(example, names.GROUP),
        names.NEAR_GROUP: records.integer(example, names.NEAR_GROUP),
        names.LABEL_INDEX: records.integer(example, names.LABEL_INDEX, -1),
        # A list of floats would take twice the bytes.
        names.FEATURES: np.asarray(vector, "<f2").tobytes(),
    }
    return split, records.serialise(records.make(values))


@dataclass
class Bank:
    """The bank that a run writes, one Beam pipeline for each pass.

    Attributes:
        plan: What is stored, with the most views.
        examples: URI of the kept images.
        features: URI of the artifact that is written.
        images: Number of images by split.
        facts: Content of ``bank.json``, except for the counts of the passes and the views.
    """

    plan: StoragePlan
    examples: str
    features: str
    images: Mapping[str, int]
    facts: dict[str, Any]

    def extract(self, pipeline: beam.Pipeline, plan: StoragePlan) -> None:
        """Extract the views of a plan, and add them to what the artifact holds."""
        splits = (names.TRAIN,) if plan.first else names.SPLITS
        with pipeline as root:
            outputs = (
                root
                | "Read" >> beam_io.ReadSplits(self.examples, splits)
                | "Batch" >> beam.BatchElements(_BATCH_BYTES, _BATCH_BYTES, element_size_fn=_weight)
                | "Extract"
                >> beam.ParDo(ExtractFeatures(plan)).with_outputs(
                    ExtractFeatures.COUNTS, main="features"
                )
            )
            prefix = _prefix(plan.first)
            _ = outputs.features | "Write" >> beam_io.WriteSplits(self.features, splits, prefix)
            described = self.facts | self._content(plan.views)
            _ = (
                outputs[ExtractFeatures.COUNTS]
                | "Sum" >> beam.CombineGlobally(beam.combiners.TupleCombineFn(sum, sum))
                | "Facts" >> beam.Map(_write_facts, self.features, described)
            )
        self.facts = records.read_json(f"{self.features}/{BANK_FILE}")

    def choose_views(self, pipeline: beam.Pipeline, head: ModelSettings, classes: int) -> None:
        """Extract the images, then one augmented view after the other, while views help the head.

        A view that does not help is removed from the artifact and stays in the store; see
        `helpful_views`. The other passes have the runner and the options of `pipeline`.
        """

        def judged(view: int) -> Scores | None:
            again = beam.Pipeline(runner=pipeline.runner, options=pipeline.options)
            self.extract(again if view else pipeline, replace(self.plan, first=view, views=view))
            rows = read_rows(self.features, names.TRAIN, classes)
            return solved_head.judge(rows, classes, head)

        training, judging = (self.images.get(one, 0) for one in (names.TRAIN, names.VALIDATION))
        if judge_networks(training, judging):
            judging += training
        helpful = helpful_views(judged, self.plan.views, head, judging)
        if helpful:
            self.facts["views_accuracy"] = [found.accuracy for found in helpful]
        kept = max(0, len(helpful) - 1)
        if kept < self.facts["views"]:
            prefix = _prefix(self.facts["views"])
            for file in tf.io.gfile.glob(f"{self.features}/Split-{names.TRAIN}/{prefix}-*"):
                tf.io.gfile.remove(file)
        self.facts |= self._content(kept)
        records.write_json(f"{self.features}/{BANK_FILE}", self.facts)

    def _content(self, views: int) -> dict[str, int]:
        return {"views": views, "bytes": bytes_of(self.images, views, self.plan.dim)}


def _write_facts(counts: tuple[int, int], uri: str, facts: dict[str, Any]) -> None:
    """Write ``bank.json``; the counts of earlier passes are in `facts`."""
    added = {
        name: facts.get(name, 0) + count
        for name, count in zip(("forward_passes", "reused"), counts, strict=True)
    }
    records.write_json(f"{uri}/{BANK_FILE}", facts | added)


def _prefix(view: int) -> str:
    """Return the beginning of the names of the files that hold the views from `view` on."""
    return f"{records.FILE_PREFIX}-view{view}" if view else records.FILE_PREFIX


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
