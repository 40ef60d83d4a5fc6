"""Extraction of features by Beam: what the store lacks is computed, and everything is written.

For a head that is solved, heads on a sample decide which features it reads.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf

from imgpipe.components.common.beam import beam_io
from imgpipe.components.common.storage import records
from imgpipe.components.feature_bank.content import StoragePlan, bytes_of, shared_extractor
from imgpipe.components.feature_bank.store import FeatureStore, record_key
from imgpipe.models import feature_names as names
from imgpipe.models import progress
from imgpipe.models.feature_kinds import parts_of
from imgpipe.models.features.bank import BANK_FILE, BankRows, read_rows
from imgpipe.models.features.extractor import describe, described
from imgpipe.models.features.folds import ENOUGH
from imgpipe.models.head import solved_head
from imgpipe.models.head.answers import Scores, better
from imgpipe.models.settings import ModelSettings

#: A batch has at most 256 images and 32 MiB, or one larger image. That is enough for decoding to
#: overlap the forward pass, and limits the memory for large images.
_BATCH_BYTES = 32 << 20
_MIN_BYTES = _BATCH_BYTES // 256  # smallest size that an image counts for
_SAMPLE = 4000  # training images with which features are chosen
#: With more images, only the last feature map is stored, unless the levels are better by far: they
#: take 12.4 kB an image of the default network instead of 2.6.
_MANY = 100_000
_FAR_BETTER = 0.01  # in accuracy


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
        self._columns = self._plan.columns

    def process(self, batch: list[bytes]) -> Iterator[Any]:
        """Look up every image and view, compute and store what is missing, and emit all."""
        examples = [tf.train.Example.FromString(record) for record in batch]
        if not self._plan.dim:
            yield beam.pvalue.TaggedOutput(self.COUNTS, (0, 0))
            for example in examples:
                yield _record(example, 0, np.empty(0, np.float16))
            return
        vectors, computed = self._vectors(examples)
        progress.advance(len(examples), "images")
        yield beam.pvalue.TaggedOutput(self.COUNTS, (computed, len(vectors) - computed))
        for (i, view), vector in vectors.items():
            recorded = np.concatenate([vector[columns] for columns in self._columns])
            yield _record(examples[i], view, recorded)

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
class ImageFeatures:
    """The bank that a run writes, one Beam pipeline for each pass.

    Attributes:
        plan: What is stored.
        examples: URI of the kept images.
        features: URI of the artifact that is written.
        images: Number of images by split.
        facts: Content of ``bank.json`` that does not depend on the plan.
    """

    plan: StoragePlan
    examples: str
    features: str
    images: Mapping[str, int]
    facts: dict[str, Any]

    def extract(self, pipeline: beam.Pipeline, share: float | None = None) -> None:
        """Extract the features of all images, or of a share of the training images."""
        splits = names.SPLITS if share is None else (names.TRAIN,)
        views = sum(self.images.get(one, 0) * len(self.plan.views_of(one)) for one in splits)
        if self.plan.dim:  # the store may have some of them
            shared_extractor(self.plan.network).expected = round(views * min(share or 1, 1))
        with pipeline as root:
            outputs = (
                root
                | "Read" >> beam_io.ReadSplits(self.examples, splits)
                | "Sample" >> beam.Filter(_in_sample, share)
                | "Batch" >> beam.BatchElements(_BATCH_BYTES, _BATCH_BYTES, element_size_fn=_weight)
                | "Extract"
                >> beam.ParDo(ExtractFeatures(self.plan)).with_outputs(
                    ExtractFeatures.COUNTS, main="features"
                )
            )
            _ = outputs.features | "Write" >> beam_io.WriteSplits(self.features, splits)
            facts = self.facts | _content(self.plan, self.images)
            _ = (
                outputs[ExtractFeatures.COUNTS]
                | "Sum" >> beam.CombineGlobally(beam.combiners.TupleCombineFn(sum, sum))
                | "Facts" >> beam.Map(_write_facts, self.features, facts)
            )

    def choose(
        self, pipeline: beam.Pipeline, head: ModelSettings, classes: int, larger: StoragePlan | None
    ) -> None:
        """Extract the features with which a head is best over folds of a sample.

        The sample are at most `_SAMPLE` training images. The head reads the first of the parts
        alone, such as the last feature map (see `feature_kinds.parts_of`), unless another one or
        everything makes it better, and sees images of the usual size unless those of `larger` do;
        see `answers.better`. Nothing else is tried where a head is `ENOUGH`.
        """
        tried: list[dict[str, Any]] = []
        passes = 0

        def sample(plan: StoragePlan) -> BankRows:
            nonlocal passes
            bank = replace(self, plan=plan, features=f"{self.features}/sample")
            share = _SAMPLE / max(1, self.images.get(names.TRAIN, 0))
            bank.extract(beam.Pipeline(runner=pipeline.runner, options=pipeline.options), share)
            rows = read_rows(bank.features, names.TRAIN, classes)
            passes += records.read_json(f"{bank.features}/{BANK_FILE}")["forward_passes"]
            tf.io.gfile.rmtree(bank.features)
            return rows

        def judged(plan: StoragePlan, rows: BankRows) -> Scores | None:
            found = solved_head.judge(rows.blocks(plan.numbers), classes, head)
            if found:
                tried.append(_content(plan, self.images) | {"accuracy": found.accuracy})
            return found

        rows, images = sample(self.plan), sum(self.images.values())
        settings, precision = described(self.plan.network)
        first, *others = parts_of(settings.widest)
        chosen = replace(self.plan, kept=first)
        best = judged(chosen, rows)
        for kept in (*others, ""):
            if not best or best.accuracy >= ENOUGH:
                break
            plan = replace(self.plan, kept=kept)
            found, far = judged(plan, rows), 0.0 if kept or images <= _MANY else _FAR_BETTER
            if found and better(found, best) and found.accuracy >= best.accuracy + far:
                chosen, best = plan, found
        if larger and best and best.accuracy < ENOUGH:
            larger = replace(larger, kept=chosen.kept)
            found = judged(larger, sample(larger))
            if found and better(found, best):
                chosen = larger
        if chosen.kept and images > _MANY:  # then the store does not hold the others either
            settings = described(chosen.network)[0]
            network = describe(replace(settings, features=chosen.kept), precision)
            chosen = replace(chosen, network=network, sizes=chosen.recorded, kept="")
        facts = {**self.facts, "tried": tried, "forward_passes": passes}
        replace(self, plan=chosen, facts=facts).extract(pipeline)


def _in_sample(record: bytes, share: float | None) -> bool:
    """Return whether an image is in a sample of a share of all images, by its content hash."""
    if share is None or share >= 1:
        return True
    digest = records.content_hash(tf.train.Example.FromString(record))
    return int(digest[:8], 16) < share * 2**32


def _content(plan: StoragePlan, images: Mapping[str, int]) -> dict[str, Any]:
    settings, _ = described(plan.network)
    return {
        "dim": sum(plan.recorded),
        "sizes": list(plan.recorded),
        "features": plan.read,
        "image_size": settings.size,
        "views": plan.views,
        "bytes": bytes_of(images, plan.views, sum(plan.recorded)),
    }


def _write_facts(counts: tuple[int, int], uri: str, facts: dict[str, Any]) -> None:
    """Write ``bank.json``; the forward passes of samples are in `facts`."""
    (computed, reused), sampled = counts, facts.get("forward_passes", 0)
    found = {"forward_passes": computed + sampled, "reused": max(0, reused - sampled)}
    records.write_json(f"{uri}/{BANK_FILE}", facts | found)
