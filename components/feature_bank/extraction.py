"""Extraction of features by Beam: what the store lacks is computed, and everything is written.

For a head that is solved, heads on a sample decide which features it reads.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import pandas as pd
import tensorflow as tf

from imgpipe.components.common.storage import records
from imgpipe.components.common.storage.records import Shard, batches, shards
from imgpipe.components.feature_bank.storage import (
    FeatureStore,
    StoragePlan,
    record_key,
    shared_extractor,
)
from imgpipe.models import names
from imgpipe.models.errors import ResourceError
from imgpipe.models.features.bank import (
    BANK_FILE,
    BankFacts,
    BankRows,
    FeatureDecision,
    JudgedFeatures,
    read_facts,
    read_rows,
)
from imgpipe.models.features.extractor import resolve_precision
from imgpipe.models.head import feature_choice
from imgpipe.models.head.feature_choice import HeadInput
from imgpipe.models.machine import progress
from imgpipe.models.network.covariance_pooling import axes_sha256, read_axes
from imgpipe.models.settings.settings import Settings

#: A batch has at most so many images and bytes, or one larger image. That is enough for decoding to
#: overlap the forward pass, and limits the memory for large images.
_BATCH_IMAGES = 256
_BATCH_BYTES = 32 << 20
_SAMPLE = 4000  # training images with which features are chosen


class _Counts(NamedTuple):
    """Number of the views of a shard, and of those whose features were not in the store."""

    views: int
    computed: int


class ExtractFeatures(beam.DoFn):
    """Writes the features of the images of a shard, and yields the numbers of their views.

    A sample has the content hashes of the images of which features are extracted; None is all.
    """

    def __init__(
        self, plan: StoragePlan, uri: str, splits: tuple[str, ...], sample: frozenset[str] | None
    ) -> None:
        self._plan = plan
        self._uri = uri
        self._splits = splits
        self._sample = sample

    def setup(self) -> None:
        """Create the store and the extractor, which builds its model on first use."""
        self._extractor = shared_extractor(self._plan.network)
        self._view_key = functools.cache(self._extractor.key)  # asks for versions of packages
        self._store = FeatureStore(self._plan.store)
        self._columns = self._plan.columns

    def process(self, shard: Shard) -> Iterator[_Counts]:
        """Look up every image and view, compute and store what is missing, and write all."""
        views = 0
        computed = 0
        sampled = filter(self._is_sampled, shard.records())
        with records.ShardWriter(shard.outputs(self._uri, self._splits)) as writer:
            for batch in batches(sampled, _BATCH_IMAGES, _BATCH_BYTES):
                examples = [tf.train.Example.FromString(record) for record in batch]
                if not self._plan.dim:
                    for example in examples:
                        writer.write(*_record(example, 0, np.empty(0, np.float16)))
                    continue
                vectors, fresh = self._vectors(examples)
                computed += fresh
                views += len(vectors)
                for (i, view), vector in vectors.items():
                    writer.write(*_record(examples[i], view, vector[self._columns]))
        yield _Counts(views, computed)

    def _is_sampled(self, record: bytes) -> bool:
        """Return whether a serialised Example is that of an image of the sample."""
        if self._sample is None:
            return True
        example = tf.train.Example.FromString(record)
        return records.text(example, names.IMAGE_HASH) in self._sample

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
        vectors = {pair: stored[key] for pair, key in keys.items() if key in stored}
        missing: dict[int, list[int]] = {}
        for i, view in keys.keys() - vectors.keys():
            missing.setdefault(i, []).append(view)
        progress.advance(len(examples) - len(missing), "images")
        if missing:
            views_of = {i: sorted(views) for i, views in sorted(missing.items())}
            computed = self._extractor.extract(
                [records.raw(examples[i], names.IMAGE_BYTES) for i in views_of],
                [hashes[i] for i in views_of],
                list(views_of.values()),
                progress.advance,
            )
            fresh = {
                (i, view): row
                for (i, views), rows in zip(views_of.items(), computed, strict=True)
                for view, row in zip(views, rows, strict=True)
            }
            self._store.put({keys[pair]: row for pair, row in fresh.items()})
            vectors |= fresh
        return vectors, sum(map(len, missing.values()))


def _record(
    example: tf.train.Example, view: int, vector: np.ndarray
) -> tuple[str, tf.train.Example]:
    """Return the split and the features of a view of an image."""
    values: dict[str, records.Value] = {
        names.VIEW: view,
        names.IMAGE_HASH: records.raw(example, names.IMAGE_HASH),
        names.FAMILY: records.raw(example, names.FAMILY),
        names.LABEL_INDEX: records.integer(example, names.LABEL_INDEX, -1),
        # A list of floats would take twice the bytes.
        names.FEATURES: np.asarray(vector, "<f2").tobytes(),
    }
    return records.text(example, names.SPLIT), records.make(values)


@dataclass
class ImageFeatures:
    """The bank that a run writes, one Beam pipeline for each pass.

    Attributes:
        plan: What is stored.
        examples: URI of the kept images.
        features: URI of the artifact that is written.
        images: Number of images by split.
        training: The table of the images of train.
        validation_drawn: Whether the run has drawn the images of validation.
        decision: How the features were chosen; None without a choice.
        sampled: Number of views of the samples by which it was decided, by the size of the images.
        forward_passes: Number of views whose features were computed for samples.
    """

    plan: StoragePlan
    examples: str
    features: str
    images: Mapping[str, int]
    training: pd.DataFrame
    validation_drawn: bool
    decision: FeatureDecision | None = None
    sampled: dict[int, int] = field(default_factory=dict)
    forward_passes: int = 0

    @functools.cached_property
    def sample(self) -> frozenset[str]:
        """The training images, by content hash, with which features are chosen."""
        below = 2**32 * _SAMPLE / max(1, len(self.training))
        return frozenset(
            digest for digest in self.training["image_hash"] if int(digest[:8], 16) < below
        )

    def extract(self, pipeline: beam.Pipeline, sample: frozenset[str] | None = None) -> None:
        """Extract the features of all images, or of a sample of the training images."""
        splits = names.SPLITS if sample is None else (names.TRAIN,)
        if self.plan.dim:
            self._expect(splits, sample)
        every = shards(self.examples, splits)
        extract = ExtractFeatures(self.plan, self.features, splits, sample)
        plan = self.plan
        facts: BankFacts = {
            "sizes": list(plan.recorded),
            "note": plan.note,
            "features": plan.read,
            "image_size": plan.network.settings.size,
            "axes": axes_sha256(read_axes(plan.network.changed(features=plan.read).settings)),
            "precision": resolve_precision(plan.network.precision),
            "validation_drawn": self.validation_drawn,
            "decision": self.decision,
            "forward_passes": self.forward_passes,
            # The views of a sample of this size are among those of the bank.
            "reused": sum(self.sampled.values()) - self.sampled.get(plan.network.settings.size, 0),
        }
        uri = self.features
        examples = self.examples
        expected = sum(self.images[split] * len(plan.views_of(split)) for split in self.images)
        is_whole = plan.dim > 0 and sample is None
        with pipeline as root:
            _ = (
                root
                | "Shards" >> beam.Create(every, reshuffle=True)
                | "Extract" >> beam.ParDo(extract)
                | "Gather" >> beam.combiners.ToList()
                | "Count" >> beam.Map(_require_views, examples, expected if is_whole else None)
                # Beam takes a typed dictionary for a class when it checks the types of arguments.
                | "Facts" >> beam.Map(lambda counts: _write_facts(counts, uri, facts))
            )
        records.remove_temporary(uri)  # of attempts that died

    def choose(
        self,
        pipeline: beam.Pipeline,
        head: Settings,
        classes: int,
        larger: Iterator[StoragePlan],
        keep: Callable[[HeadInput, list[JudgedFeatures]], FeatureDecision],
    ) -> None:
        """Extract the features with which a head is best over folds of a sample.

        The sample are at most `_SAMPLE` training images. Of the plans `larger`, for images that are
        larger from plan to plan, each is made and tried only where this is worth it; see
        `feature_choice`. What was decided is passed to `keep`.
        """
        rows = self._sampled(pipeline, self.plan, classes)
        images = sum(self.images.values())
        choice = feature_choice.choose_blocks(rows, classes, head, images)
        plans = {choice.chosen.image_size: self.plan}
        while choice.size_may_help:
            plan = next(larger, None)
            if plan is None:
                break
            size = plan.network.settings.size
            plans[size] = plan
            progress.part(f"images of {size} pixels")
            progress.say(
                f"Features of images of {size} pixels are tried, too, because the head makes "
                "mistakes that details may tell apart."
            )
            part = feature_choice.first_part(rows)
            if part is not None:
                hashes = frozenset(digest.decode() for digest in part.hashes.tolist())
                larger_part = self._sampled(pipeline, plan, classes, hashes)
                if not feature_choice.may_be_better(choice, part, larger_part, size):
                    break
            rows = self._sampled(pipeline, plan, classes)
            # No other size is tried if this one is not better; `rows` are those of the best one.
            choice = feature_choice.choose_size(choice, rows, size)
        judgements: list[JudgedFeatures] = [
            {
                "features": tried.features,
                "image_size": tried.image_size,
                "accuracy": judgement.scores.accuracy,
                "method": judgement.regression.method,
                "l2": judgement.regression.l2,
            }
            for tried, judgement in choice.tried
        ]
        decision = keep(choice.chosen, judgements)
        progress.part("")
        if len(plans) > 1:
            progress.say(f"Images of {choice.chosen.image_size} pixels are taken.")
        chosen = replace(self, plan=plans[choice.chosen.image_size])
        chosen.extract_chosen(pipeline, choice.chosen.features, decision)

    def extract_chosen(
        self, pipeline: beam.Pipeline, features: str, decision: FeatureDecision
    ) -> None:
        """Extract the features that a head reads, which were chosen now or by an earlier run."""
        chosen = replace(self.plan, kept=features)
        # Of many images, the store does not hold the other blocks either.
        if chosen.block is not None and sum(self.images.values()) > feature_choice.MANY_IMAGES:
            network = chosen.network.changed(features=chosen.kept)
            chosen = replace(chosen, network=network, sizes=chosen.recorded, kept="")
        replace(self, plan=chosen, decision=decision).extract(pipeline)

    def _expect(self, splits: Sequence[str], sample: frozenset[str] | None) -> None:
        """Tell the display how many images there are, and the extractor how many views at most."""
        images = sum(self.images.get(split, 0) for split in splits)
        views = sum(self.images.get(split, 0) * len(self.plan.views_of(split)) for split in splits)
        share = 1.0 if sample is None else len(sample) / max(1, images)
        progress.total(round(images * share))
        shared_extractor(self.plan.network).expected = round(views * share)  # some may be stored

    def _sampled(
        self,
        pipeline: beam.Pipeline,
        plan: StoragePlan,
        classes: int,
        hashes: frozenset[str] | None = None,
    ) -> BankRows:
        """Return the rows of the sample, and count its views.

        Of a part of the sample, the content hashes of the images are given.
        """
        uri = f"{self.features}/sample"
        bank = replace(self, plan=plan, features=uri, sampled={}, forward_passes=0)
        sample = self.sample if hashes is None else hashes
        bank.extract(beam.Pipeline(runner=pipeline.runner, options=pipeline.options), sample)
        rows = read_rows(uri, names.TRAIN, classes)
        facts = read_facts(uri)
        tf.io.gfile.rmtree(uri)
        self.forward_passes += facts["forward_passes"]
        self.sampled[facts["image_size"]] = facts["forward_passes"] + facts["reused"]
        return rows


def _require_views(counts: list[_Counts], examples: str, expected: int | None) -> list[_Counts]:
    """Return the counts; refuse examples that lost images, which no checksum of records shows."""
    views = sum(of_shard.views for of_shard in counts)
    if expected not in (None, views):
        raise ResourceError(
            f"{examples} is damaged: of {expected:,} views of the images in the table, {views:,} "
            "were found. Run again with --from ImageFilter, which makes it again."
        )
    return counts


def _write_facts(counts: Sequence[_Counts], uri: str, facts: BankFacts) -> None:
    """Write `bank.json`, to whose counts those of the shards are added."""
    computed = facts["forward_passes"] + sum(of_shard.computed for of_shard in counts)
    views = facts["reused"] + sum(of_shard.views for of_shard in counts)
    content: BankFacts = {
        **facts,
        "forward_passes": computed,
        "reused": max(0, views - computed),
    }
    records.write_json(f"{uri}/{BANK_FILE}", content)
