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
from imgpipe.models.features.bank import ACTIVATIONS_FOLDER, BANK_FILE

#: A batch has at most 256 images and 32 MiB, or one larger image. That is enough for decoding to
#: overlap the forward pass, and limits the memory for large images.
_BATCH_BYTES = 32 << 20
_MIN_BYTES = _BATCH_BYTES // 256  # smallest size that an image counts for

#: Arrays by (index in the batch, view).
Vectors = dict[tuple[int, int], np.ndarray]


class ExtractFeatures(beam.DoFn):
    """Maps batches of serialised image Examples to (split, feature record) pairs.

    The tagged output ``counts`` has (computed, reused) pairs, and ``activations`` has
    (split, activation record) pairs.
    """

    COUNTS = "counts"
    ACTIVATIONS = "activations"

    def __init__(self, plan: StoragePlan) -> None:
        self._plan = plan

    def setup(self) -> None:
        """Open the store and the extractor, which builds its model on first use."""
        self._extractor = shared_extractor(self._plan.network)
        self._view_key = functools.cache(self._extractor.key)  # asks for versions of packages
        self._store = FeatureStore(self._plan.store)
        dim, activations = self._plan.shapes.dim, self._plan.shapes.activation_count
        # The part of a computed row that each cut stores; "" stands for the features.
        self._parts = {"": slice(0, dim)}
        if activations:
            self._parts[self._extractor.tap] = slice(dim, dim + activations)

    def teardown(self) -> None:
        """Close the store."""
        self._store.close()

    def process(self, batch: list[bytes]) -> Iterator[Any]:
        """Look up every image and view, compute and store what is missing, and emit all."""
        examples = [tf.train.Example.FromString(record) for record in batch]
        views = [self._plan.views_of(records.text(example, names.SPLIT)) for example in examples]
        if not self._plan.shapes.dim:
            yield beam.pvalue.TaggedOutput(self.COUNTS, (0, 0))
            for example in examples:
                yield _record(example, 0, names.FEATURES, np.empty(0, np.float16))
            return
        found, computed = self._vectors(examples, views)
        vectors = found.pop("")
        if not self._plan.first:  # later passes add views of the same images
            progress.advance(len(examples), "images")
        yield beam.pvalue.TaggedOutput(self.COUNTS, (computed, len(vectors) - computed))
        for (i, view), vector in vectors.items():
            yield _record(examples[i], view, names.FEATURES, vector)
        for maps in found.values():
            for (i, view), activations in maps.items():
                record = _record(examples[i], view, names.ACTIVATIONS, activations)
                yield beam.pvalue.TaggedOutput(self.ACTIVATIONS, record)

    def _vectors(
        self, examples: list[tf.train.Example], views: list[list[int]]
    ) -> tuple[dict[str, Vectors], int]:
        """Arrays of a batch by their cut, and the number of views that were computed."""
        hashes = [records.content_hash(example) for example in examples]
        wanted = [(i, view) for i in range(len(examples)) for view in views[i]]
        found = {tap: self._stored(wanted, hashes, tap) for tap in self._parts}
        missing = [
            [view for view in views[i] if any((i, view) not in rows for rows in found.values())]
            for i in range(len(examples))
        ]
        todo = [i for i, wanted_views in enumerate(missing) if wanted_views]
        if todo:
            computed = self._extractor.extract(
                [records.raw(examples[i], names.IMAGE_BYTES) for i in todo],
                [hashes[i] for i in todo],
                [missing[i] for i in todo],
            )
            fresh = {
                (i, view): row
                for i, rows in zip(todo, computed, strict=True)
                for view, row in zip(missing[i], rows, strict=True)
            }
            kept: dict[bytes, np.ndarray] = {}
            for tap, part in self._parts.items():
                rows = {key: row[part] for key, row in fresh.items()}
                found[tap].update(rows)
                kept |= {self._key(hashes[i], view, tap): row for (i, view), row in rows.items()}
            self._store.put(kept)
        return found, sum(map(len, missing))

    def _key(self, image_hash: str, view: int, tap: str) -> bytes:
        return record_key(image_hash, self._view_key(view, tap))

    def _stored(self, wanted: list[tuple[int, int]], hashes: list[str], tap: str) -> Vectors:
        keys = {(i, view): self._key(hashes[i], view, tap) for i, view in wanted}
        found = self._store.get(list(keys.values()), self._parts[tap].stop - self._parts[tap].start)
        return {pair: found[key] for pair, key in keys.items() if key in found}


def _weight(record: bytes) -> int:
    """Bytes that a record counts for in a batch."""
    return max(len(record), _MIN_BYTES)


def _record(
    example: tf.train.Example, view: int, name: str, vector: np.ndarray
) -> tuple[str, bytes]:
    split = records.text(example, names.SPLIT)
    values: dict[str, records.Value] = {
        names.SPLIT: split,
        names.VIEW: view,
        names.IMAGE_HASH: records.raw(example, names.IMAGE_HASH),
        names.PATH: records.raw(example, names.PATH),
        names.GROUP: records.raw(example, names.GROUP),
        names.LABEL_INDEX: records.integer(example, names.LABEL_INDEX, -1),
        name: np.asarray(vector, "<f2").tobytes(),  # a list of floats would take twice the bytes
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
                ExtractFeatures.COUNTS, ExtractFeatures.ACTIVATIONS, main="features"
            )
        )
        _ = outputs.features | "Write" >> beam_io.WriteSplits(features, splits, prefix)
        if plan.shapes.activations:
            _ = outputs[ExtractFeatures.ACTIVATIONS] | "WriteActivations" >> beam_io.WriteSplits(
                f"{features}/{ACTIVATIONS_FOLDER}", splits, prefix
            )
        _ = (
            outputs[ExtractFeatures.COUNTS]
            | "Sum" >> beam.CombineGlobally(beam.combiners.TupleCombineFn(sum, sum))
            | "Facts" >> beam.Map(_write_bank_json, features, {**facts, "views": plan.views})
        )


def prefix_of(view: int) -> str:
    """Return the beginning of the names of the files that hold the views from `view` on."""
    return f"{records.FILE_PREFIX}-view{view}" if view else records.FILE_PREFIX
