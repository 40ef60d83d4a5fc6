"""Extraction of features by Beam: what the store lacks is computed, and everything is written."""

import functools
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf

from imgpipe.components.beam import beam_io
from imgpipe.components.feature_bank.content import StoragePlan, shared_extractor
from imgpipe.components.feature_bank.store import FeatureStore, record_key
from imgpipe.components.storage import records
from imgpipe.models import feature_names as names
from imgpipe.models import progress
from imgpipe.models.features.bank import BANK_FILE

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


def _write_bank_json(counts: tuple[int, int], uri: str, facts: dict[str, Any]) -> None:
    """Write the description of the bank; the counts of earlier passes are in `facts`."""
    forward, reused = counts
    found = {
        **facts,
        "forward_passes": facts.get("forward_passes", 0) + forward,
        "reused": facts.get("reused", 0) + reused,
    }
    records.write_json(f"{uri}/{BANK_FILE}", found)


def extract(
    pipeline: beam.Pipeline, plan: StoragePlan, examples: str, features: str, facts: dict[str, Any]
) -> None:
    """Extract the views of a plan, and add them to what the artifact `features` holds."""
    splits = (names.TRAIN,) if plan.first else names.SPLITS
    prefix = prefix_of(plan.first)
    with pipeline as root:
        outputs = (
            root
            | "Read" >> beam_io.ReadSplits(examples, splits)
            | "Batch" >> beam.BatchElements(_BATCH_BYTES, _BATCH_BYTES, element_size_fn=_weight)
            | "Extract"
            >> beam.ParDo(ExtractFeatures(plan)).with_outputs(
                ExtractFeatures.COUNTS, main="features"
            )
        )
        _ = outputs.features | "Write" >> beam_io.WriteSplits(features, splits, prefix)
        _ = (
            outputs[ExtractFeatures.COUNTS]
            | "Sum" >> beam.CombineGlobally(beam.combiners.TupleCombineFn(sum, sum))
            | "Facts" >> beam.Map(_write_bank_json, features, {**facts, "views": plan.views})
        )


def prefix_of(view: int) -> str:
    """Return the beginning of the names of the files that hold the views from `view` on."""
    return f"{records.FILE_PREFIX}-view{view}" if view else records.FILE_PREFIX
