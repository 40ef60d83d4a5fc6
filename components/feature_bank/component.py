"""FeatureBank: runs the frozen backbone once on each image and view, and stores the features.

The output artifact holds all features that ImageTrainer needs, so that lineage and Kubeflow see
them. The store behind it only saves forward passes in later runs. Training images have the image
itself (view 0) and K augmented views; images of other splits have view 0 alone. If layers above a
cut are to be trained, the activations at the cut are stored too, in ``activations/`` of the
artifact. If the features exceed the budget or the backbone itself is trained, the records hold no
features, and ImageTrainer reads the images.
"""

import functools
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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

from imgpipe.components import beam_io, blob_store, records
from imgpipe.components.artifacts import DataBlessing
from imgpipe.components.blessings import require_data_blessing
from imgpipe.components.feature_bank.store import STORE, FeatureStore, Shapes, record_key
from imgpipe.models import feature_names as names
from imgpipe.models import progress
from imgpipe.models.bank import ACTIVATIONS_FOLDER, BANK_FILE
from imgpipe.models.extractor import FeatureExtractor, from_description, resolve_precision

#: A batch has at most 256 images and 32 MiB, or one larger image. That is enough for decoding to
#: overlap the forward pass, and limits the memory for large images.
_BATCH_BYTES = 32 << 20
_MIN_BYTES = _BATCH_BYTES // 256  # that an image counts for

#: Value of the parameter `budget` for a share of the free disk space.
FREE_DISK = -1.0
_FREE_SHARE = 0.25

#: Arrays by (index in the batch, view).
Vectors = dict[tuple[int, int], np.ndarray]


@dataclass(frozen=True)
class Plan:
    """What is stored for each image, and where. It holds plain values that Beam can pickle.

    Attributes:
      network: Description of the backbone, as `imgpipe.models.extractor.describe` returns it.
      store: Folder of the content-addressed store, as `blob_store.open_store` takes it.
      views: Number of augmented views of a training image.
      shapes: Shapes of the features and activations; with a `dim` of 0 nothing is stored.
    """

    network: str
    store: str
    views: int
    shapes: Shapes


@functools.lru_cache(maxsize=2)
def shared_extractor(network: str) -> FeatureExtractor:
    """The extractor of a backbone, which all threads of a process share.

    Args:
      network: Description of the backbone, as `imgpipe.models.extractor.describe` returns it.
    """
    return from_description(network)


class ExtractFeatures(beam.DoFn):
    """Maps batches of serialised image Examples to (split, feature record) pairs.

    The tagged output ``counts`` has (computed, reused) pairs, and ``activations`` has
    (split, activation record) pairs.
    """

    COUNTS = "counts"
    ACTIVATIONS = "activations"

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def setup(self) -> None:
        """Open the store and the extractor, which builds its model on first use."""
        self._extractor = shared_extractor(self._plan.network)
        self._store = FeatureStore(self._plan.store)

    def teardown(self) -> None:
        """Close the store."""
        self._store.close()

    def process(self, batch: list[bytes]) -> Iterator[Any]:
        """Look up every image and view, compute and store what is missing, and emit all."""
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
        """Features and activations of a batch, and the number of views that were computed."""
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
            vectors.update({key: row[:dim] for key, row in fresh.items()})
            if length:
                maps.update({key: row[dim:] for key, row in fresh.items()})
        return vectors, maps, sum(map(len, missing))

    def _complete(self, key: tuple[int, int], vectors: Vectors, maps: Vectors) -> bool:
        return key in vectors and (not self._plan.shapes.activation_count or key in maps)

    def _store_key(self, image_hash: str, view: int, tap: str) -> bytes:
        return record_key(image_hash, self._extractor.key(view, tap))

    def _stored(
        self, wanted: list[tuple[int, int]], hashes: list[str], tap: str, length: int
    ) -> Vectors:
        keys = {(i, view): self._store_key(hashes[i], view, tap) for i, view in wanted}
        found = self._store.get(list(keys.values()), length)
        return {pair: found[key] for pair, key in keys.items() if key in found}

    def _keep(self, rows: Vectors, hashes: list[str]) -> None:
        dim = self._plan.shapes.dim
        kept = {self._store_key(hashes[i], v, ""): row[:dim] for (i, v), row in rows.items()}
        if self._plan.shapes.activation_count:
            tap = self._extractor.tap
            kept.update({self._store_key(hashes[i], v, tap): r[dim:] for (i, v), r in rows.items()})
        self._store.put(kept)

    def _views_of(self, split: str) -> list[int]:
        return list(range(self._plan.views + 1)) if split == names.TRAIN else [0]


def make_plan(network: str, store: str, kept: Mapping[str, int], budget: float) -> tuple[Plan, str]:
    """Decide what to store within the budget.

    Where not everything fits, fewer augmented views are stored, so that a step past the budget
    costs a view and not a forward pass of every image in every epoch.

    Args:
      network: Description of the backbone, as `imgpipe.models.extractor.describe` returns it.
      store: Folder of the content-addressed store, as `blob_store.open_store` takes it.
      kept: Number of images by split.
      budget: Bytes that the features and activations of a run may take.

    Returns:
      The plan, and the reason why it does not store everything; "" when it does.
    """
    given = json.loads(network)
    views = int(given["views"]["count"])
    if not given["frozen"]:
        note = "the backbone itself is trained, so that images are read"
        return Plan(network, store, views, Shapes(0)), note
    features = FeatureStore(store)
    shapes = features.learn_shapes(shared_extractor(network))
    features.close()
    without = json.dumps({**given, "tap": ""}, sort_keys=True)
    wanted, note = shapes, ""
    for described, found in ((network, shapes), (without, Shapes(shapes.dim))):
        for stored in range(views, -1, -1):
            size = _bytes(kept, stored, found)
            if size <= budget:
                return Plan(
                    described, store, stored, found
                ), note and f"{note}; {_stored(stored, found, wanted)}"
            note = note or (
                f"features{' and activations' if found.activations else ''} would take "
                f"{size / 2**30:.1f} GiB, over bank.budget ({budget / 2**30:.3g} GiB)"
            )
        if not found.activations:
            break
    return Plan(network, store, views, Shapes(0)), note


def _bytes(kept: Mapping[str, int], views: int, shapes: Shapes) -> int:
    """Size of the features and activations of all images, float16."""
    rows = sum(kept.values()) + views * kept[names.TRAIN]
    return 2 * rows * (shapes.dim + shapes.activation_count)


def _stored(views: int, shapes: Shapes, wanted: Shapes) -> str:
    """What is stored instead of everything, for people."""
    rest = " and no activations" if wanted.activations and not shapes.activations else ""
    return f"those of {views} augmented views of each training image are stored{rest}"


def free_budget(store: str) -> float:
    """Bytes that the features and activations of a run may take where no budget is given.

    They are written three times at most: to the store, to the artifact and, above what memory
    holds, to a temporary file of ImageTrainer. A quarter of the free space leaves room for the
    rest of the run. What the store holds already needs no room again.

    Args:
      store: Folder of the content-addressed store, which need not exist, as
        `blob_store.open_store` takes it.
    """
    folder = blob_store.folder_of(store)
    file = blob_store.path_of(folder, STORE)
    held = file.stat().st_size if file.exists() else 0
    while not folder.exists():
        folder = folder.parent
    return _FREE_SHARE * (shutil.disk_usage(folder).free + held)


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
        names.LABEL_INDEX: records.integer(example, names.LABEL_INDEX, -1),
        name: np.asarray(vector, "<f2").tobytes(),
    }
    return split, records.serialise(records.make(values))


def _write_bank_json(counts: tuple[int, int], uri: str, facts: dict[str, Any]) -> None:
    forward, reused = counts
    records.write_json(f"{uri}/{BANK_FILE}", {**facts, "forward_passes": forward, "reused": reused})


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
      examples: Kept images of all splits, Examples of ImageFilter.
      metadata: Metadata of the same images without their bytes, from which they are counted.
      data_blessing: Blessing of DataGate; without it nothing is computed.
      features: Output: feature records, ``activations/`` and ``bank.json`` (see
        `imgpipe.models.bank.BankFacts`).
      network: Description of the backbone, as `imgpipe.models.extractor.describe` returns it.
      weights_key: Fingerprint of weights and preprocessing, which is part of TFX's cache key.
      store: Folder of the content-addressed store, as `blob_store.open_store` takes it.
      budget: Bytes that the features and activations of a run may take, or `FREE_DISK`.
      code: Fingerprint of the code that extracts, which is part of TFX's cache key.
      beam_pipeline: Beam pipeline, supplied by TFX.

    Raises:
      DataRefused: DataGate did not bless the data.
    """
    require_data_blessing(data_blessing.uri)
    beam_io.mark_examples(features)
    kept = {split: records.count(metadata.uri, split) for split in names.SPLITS}
    progress.total(sum(kept.values()), "images")  # shown while the network is compiled
    allowed = free_budget(store) if budget == FREE_DISK else budget
    plan, note = make_plan(network, store, kept, allowed)
    given = json.loads(plan.network)
    facts = {
        "dim": plan.shapes.dim,
        "activations": list(plan.shapes.activations),
        "tap": given["tap"],
        "note": note,
        "bytes": _bytes(kept, plan.views, plan.shapes),
        "budget_bytes": int(allowed),
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
