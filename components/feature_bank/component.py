"""FeatureBank: the frozen backbone, once per image and view.

The output artifact holds every vector the Trainer needs, so lineage and Kubeflow see it; the
store behind it only saves forward passes between runs. Training images get the clean view and K
augmented ones, the other splits the clean view. Where layers above a cut are to be trained, their
inputs are kept too, in ``activations/`` of the artifact; what would not fit the budget, and a
backbone that is trained itself, leave records without vectors, and the Trainer reads images.
"""

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples

from imgpipe.components import beam_io, records
from imgpipe.components.artifacts import DataBlessing
from imgpipe.components.blessings import require_data_blessing
from imgpipe.components.feature_bank.store import FeatureStore, Shapes, record_key
from imgpipe.models import feature_names as names
from imgpipe.models import progress
from imgpipe.models.bank import ACTIVATIONS_FOLDER
from imgpipe.models.extractor import FeatureExtractor, from_description, resolve_precision

#: A batch is at most 256 images and 32 MiB (and one image): enough for decoding to overlap the
#: forward pass, and bounded whatever the camera.
_BATCH_BYTES = 32 << 20
_LEAST_BYTES = _BATCH_BYTES // 256

#: By (place in the batch, view).
Vectors = dict[tuple[int, int], np.ndarray]


@dataclass(frozen=True)
class Plan:
    """What is stored of each image, and where; plain values, for Beam's workers.

    Attributes:
      network: as `imgpipe.models.extractor.describe` writes it.
      store: folder of the content-addressed store.
      views: augmented views of a training image.
      shapes: lengths of what is stored; a dim of 0 stores nothing.
    """

    network: str
    store: str
    views: int
    shapes: Shapes


@functools.lru_cache(maxsize=2)
def shared_extractor(network: str) -> FeatureExtractor:
    """One extractor a process, however many threads the runner has.

    Args:
      network: as `imgpipe.models.extractor.describe` writes it.
    """
    return from_description(network)


class ExtractFeatures(beam.DoFn):
    """Batches of image examples to (split, bank record).

    Counts go to the tag ``counts``, (split, record with activations) to ``activations``.
    """

    COUNTS = "counts"
    ACTIVATIONS = "activations"

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def setup(self) -> None:
        """Open the extractor (lazily built) and the store on the worker."""
        self._extractor = shared_extractor(self._plan.network)
        self._store = FeatureStore(Path(self._plan.store))

    def teardown(self) -> None:
        """Close the store."""
        self._store.close()

    def process(self, batch: list[bytes]) -> Iterator[Any]:
        """Look up every (image, view), compute what is missing, keep it, emit all."""
        examples = [tf.train.Example.FromString(record) for record in batch]
        views = [self._views_of(records.text(example, names.SPLIT)) for example in examples]
        if not self._plan.shapes.dim:
            yield beam.pvalue.TaggedOutput(self.COUNTS, (0, 0))
            for example in examples:
                yield _record(example, 0, names.FEATURES, np.empty(0, np.float16))
            return
        vectors, maps, computed = self._vectors(examples, views)
        progress.advance(len(examples), "images")
        yield beam.pvalue.TaggedOutput(self.COUNTS, (computed, len(vectors) - computed))
        for (i, view), vector in vectors.items():
            yield _record(examples[i], view, names.FEATURES, vector)
        for (i, view), activations in maps.items():
            record = _record(examples[i], view, names.ACTIVATIONS, activations)
            yield beam.pvalue.TaggedOutput(self.ACTIVATIONS, record)

    def _vectors(
        self, examples: list[tf.train.Example], views: list[list[int]]
    ) -> tuple[Vectors, Vectors, int]:
        """Features and activations by (place in the batch, view), and how many were computed."""
        hashes = [records.content_hash(example) for example in examples]
        wanted = [(i, view) for i in range(len(examples)) for view in views[i]]
        vectors = self._stored(wanted, hashes, "", self._plan.shapes.dim)
        tap, length = self._extractor.tap, self._plan.shapes.activation_count
        maps = self._stored(wanted, hashes, tap, length) if length else {}
        missing = [
            [view for view in views[i] if not self._complete((i, view), vectors, maps)]
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
            self._keep(fresh, hashes)
            dim = self._plan.shapes.dim
            vectors.update({place: row[:dim] for place, row in fresh.items()})
            if length:
                maps.update({place: row[dim:] for place, row in fresh.items()})
        return vectors, maps, sum(map(len, missing))

    def _complete(self, place: tuple[int, int], vectors: Vectors, maps: Vectors) -> bool:
        return place in vectors and (not self._plan.shapes.activation_count or place in maps)

    def _address(self, image_hash: str, view: int, tap: str) -> bytes:
        return record_key(image_hash, self._extractor.key(view, tap))

    def _stored(
        self, wanted: list[tuple[int, int]], hashes: list[str], tap: str, length: int
    ) -> Vectors:
        keys = {place: self._address(hashes[place[0]], place[1], tap) for place in wanted}
        found = self._store.get(list(keys.values()), length)
        return {place: found[key] for place, key in keys.items() if key in found}

    def _keep(self, rows: Vectors, hashes: list[str]) -> None:
        dim = self._plan.shapes.dim
        kept = {self._address(hashes[i], v, ""): row[:dim] for (i, v), row in rows.items()}
        if self._plan.shapes.activation_count:
            tap = self._extractor.tap
            kept.update({self._address(hashes[i], v, tap): r[dim:] for (i, v), r in rows.items()})
        self._store.put(kept)

    def _views_of(self, split: str) -> list[int]:
        return list(range(self._plan.views + 1)) if split == names.TRAIN else [0]


def make_plan(network: str, store: str, kept: Mapping[str, int], budget: float) -> tuple[Plan, str]:
    """What to store, and why not everything that was wanted; "" when it is.

    Args:
      network: as `imgpipe.models.extractor.describe` writes it.
      store: folder of the content-addressed store.
      kept: images of each split.
      budget: bytes that the features and activations of a run may take.
    """
    given = json.loads(network)
    views = int(given["views"]["count"])
    if not given["frozen"]:
        return Plan(network, store, views, Shapes(0)), "the backbone trains: images are read"
    features = FeatureStore(Path(store))
    shapes = features.learn_shapes(shared_extractor(network))
    features.close()
    rows = sum(kept.values()) + views * kept[names.TRAIN]
    vectors, maps = 2 * rows * shapes.dim, 2 * rows * shapes.activation_count
    if vectors + maps <= budget:
        return Plan(network, store, views, shapes), ""
    over = f"over bank.budget ({budget / 2**30:g} GiB)"
    if vectors > budget:
        note = f"features would take {vectors / 2**30:.1f} GiB, {over}"
        return Plan(network, store, views, Shapes(0)), note
    without = json.dumps({**given, "tap": ""}, sort_keys=True)
    note = f"features and activations would take {(vectors + maps) / 2**30:.1f} GiB, {over}"
    return Plan(without, store, views, Shapes(shapes.dim)), note


def _weight(record: bytes) -> int:
    """Bytes that a record counts for in a batch."""
    return max(len(record), _LEAST_BYTES)


def _record(
    example: tf.train.Example, view: int, name: str, vector: np.ndarray
) -> tuple[str, bytes]:
    split = records.text(example, names.SPLIT)
    values: dict[str, records.Value] = {
        names.SPLIT: split,
        names.VIEW: view,
        names.IMAGE_HASH: records.raw(example, names.IMAGE_HASH),
        names.PATH: records.raw(example, names.PATH),
        names.LABEL_INDEX: records.integer(example, names.LABEL_INDEX, -1),
        name: np.asarray(vector, "<f2").tobytes(),
    }
    return split, records.serialise(records.make(values))


def _write_bank_json(counts: tuple[int, int], uri: str, facts: dict[str, Any]) -> None:
    forward, reused = counts
    records.write_json(f"{uri}/bank.json", {**facts, "forward_passes": forward, "reused": reused})


def _add_counts(counts: Any) -> tuple[int, int]:
    forward = reused = 0
    for f, r in counts:
        forward, reused = forward + f, reused + r
    return forward, reused


@component(use_beam=True)
def FeatureBank(
    examples: InputArtifact[Examples],
    metadata: InputArtifact[Examples],
    data_blessing: InputArtifact[DataBlessing],
    features: OutputArtifact[Examples],
    network: Parameter[str],
    weights_key: Parameter[str],
    store: Parameter[str],
    budget: Parameter[float],
    code: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Extract the features of every kept image.

    Args:
      examples: kept images, splits train, validation and test.
      metadata: the same without their bytes, to be counted.
      data_blessing: of DataGate; without it nothing is computed.
      features: bank records, ``activations/`` and ``bank.json`` (see `BankFacts`).
      network: as `imgpipe.models.extractor.describe` writes it.
      weights_key: address of weights and preprocessing; changes invalidate the cached output.
      store: folder of the content-addressed store.
      budget: bytes that the vectors of a run may take.
      code: address of the code that extracts, for the cache alone.
      beam_pipeline: given by TFX.
    """
    require_data_blessing(data_blessing.uri)
    beam_io.mark_examples(features)
    kept = {split: records.count(metadata.uri, split) for split in names.SPLITS}
    progress.total(sum(kept.values()), "images")  # shown while the network is compiled
    plan, note = make_plan(network, store, kept, budget)
    given = json.loads(plan.network)
    facts = {
        "dim": plan.shapes.dim,
        "activations": list(plan.shapes.activations),
        "tap": given["tap"],
        "note": note,
        "backbone": given["backbone"],
        "image_size": given["image_size"],
        "views": plan.views,
        "weights_key": weights_key,
        "precision": resolve_precision(given["precision"]),
    }
    with beam_pipeline as pipeline:
        outputs = (
            pipeline
            | "Read" >> beam_io.ReadSplits(examples.uri)
            | "Batch" >> beam.BatchElements(_BATCH_BYTES, _BATCH_BYTES, element_size_fn=_weight)
            | "Extract"
            >> beam.ParDo(ExtractFeatures(plan)).with_outputs(
                ExtractFeatures.COUNTS, ExtractFeatures.ACTIVATIONS, main="features"
            )
        )
        _ = outputs.features | "Write" >> beam_io.WriteSplits(features.uri)
        if plan.shapes.activations:
            _ = outputs[ExtractFeatures.ACTIVATIONS] | "WriteActivations" >> beam_io.WriteSplits(
                f"{features.uri}/{ACTIVATIONS_FOLDER}"
            )
        _ = (
            outputs[ExtractFeatures.COUNTS]
            | "Sum" >> beam.CombineGlobally(_add_counts)
            | "Facts" >> beam.Map(_write_bank_json, features.uri, facts)
        )
