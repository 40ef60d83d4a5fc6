"""FeatureBank: runs the frozen backbone once on each image and view, and stores the features.

The output artifact holds all features that ImageTrainer needs, so that lineage and Kubeflow see
them. The store behind it only saves forward passes in later runs. Training images have the image
itself (view 0) and K augmented views; images of other splits have view 0 alone. If layers above a
cut are to be trained, the activations at the cut are stored too, in ``activations/`` of the
artifact. If the features exceed the budget or the backbone itself is trained, the records hold no
features, and ImageTrainer reads the images.
"""

import dataclasses
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
from imgpipe.models import progress, solved_head
from imgpipe.models.bank import ACTIVATIONS_FOLDER, BANK_FILE, open_split
from imgpipe.models.extractor import FeatureExtractor, from_description, resolve_precision
from imgpipe.models.file_patterns import matching
from imgpipe.models.settings import ModelSettings
from imgpipe.models.solved_head import Judgement

#: A batch has at most 256 images and 32 MiB, or one larger image. That is enough for decoding to
#: overlap the forward pass, and limits the memory for large images.
_BATCH_BYTES = 32 << 20
_MIN_BYTES = _BATCH_BYTES // 256  # that an image counts for

#: Value of the parameter `budget` for a share of the free disk space.
FREE_DISK = -1.0
#: Accuracy over the folds above which another view is not tried.
_GOOD_ENOUGH = 0.995
_FREE_SHARE = 0.25

#: Arrays by (index in the batch, view).
Vectors = dict[tuple[int, int], np.ndarray]


@dataclass(frozen=True)
class Plan:
    """What is stored for each image, and where. It holds plain values that Beam can pickle.

    Attributes:
      network: Description of the backbone, as `imgpipe.models.extractor.describe` returns it.
      store: Folder of the content-addressed store, as `blob_store.open_store` takes it.
      views: Number of the last augmented view of a training image.
      shapes: Shapes of the features and activations; with a `dim` of 0 nothing is stored.
      first: Number of the first view. Above 0, only training images have any.
    """

    network: str
    store: str
    views: int
    shapes: Shapes
    first: int = 0

    def views_of(self, split: str) -> list[int]:
        """Numbers of the views of an image of a split."""
        if split == names.TRAIN:
            return list(range(self.first, self.views + 1))
        return [] if self.first else [0]


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
        views = [self._plan.views_of(records.text(example, names.SPLIT)) for example in examples]
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
    """Write the description of the bank; the counts of earlier passes are in `facts`."""
    forward, reused = counts
    found = {
        **facts,
        "forward_passes": facts.get("forward_passes", 0) + forward,
        "reused": facts.get("reused", 0) + reused,
    }
    records.write_json(f"{uri}/{BANK_FILE}", found)


def _add_counts(counts: Any) -> tuple[int, int]:
    forward = reused = 0
    for f, r in counts:
        forward, reused = forward + f, reused + r
    return forward, reused


def _extract(
    pipeline: beam.Pipeline, plan: Plan, examples: str, features: str, facts: dict[str, Any]
) -> None:
    """Extract the views of a plan, and add them to what the artifact `features` holds."""
    splits = (names.TRAIN,) if plan.first else names.SPLITS
    prefix = _prefix(plan.first)
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
            | "Sum" >> beam.CombineGlobally(_add_counts)
            | "Facts" >> beam.Map(_write_bank_json, features, {**facts, "views": plan.views})
        )


def _prefix(view: int) -> str:
    """Beginning of the names of the files that a pass writes."""
    return f"{records.FILE_PREFIX}-view{view}" if view else records.FILE_PREFIX


def choose_views(
    pipeline: beam.Pipeline,
    plan: Plan,
    examples: str,
    features: str,
    facts: dict[str, Any],
    head: str,
    vocabulary: str,
) -> None:
    """Extract the images themselves, then one augmented view after the other, while it pays.

    A view pays if heads that are solved on it too have a lower loss on training images that they
    did not see, by more than two standard errors. What did not pay is removed from the artifact
    and stays in the store.

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
        _extract(pipeline, one, examples, features, facts)
        facts = records.read_json(f"{features}/{BANK_FILE}")
        with open_split(features, names.TRAIN, classes) as rows:
            found = solved_head.judge(rows, classes, settings)
        if found is None or not (best is None or found.better_than(best)):
            break
        best = found
        facts["views_accuracy"] = [*facts.get("views_accuracy", []), float(found.right.mean())]
        if found.right.mean() >= _GOOD_ENOUGH:
            break
    kept = max(0, len(facts.get("views_accuracy", [])) - 1)
    if kept < facts["views"]:
        for file in matching(f"{features}/Split-{names.TRAIN}/{_prefix(facts['views'])}-*"):
            tf.io.gfile.remove(file)
    records.write_json(f"{features}/{BANK_FILE}", {**facts, "views": kept})


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
    vocabulary: Parameter[str] = "[]",
    head: Parameter[str] = "",
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
      vocabulary: JSON list of class names in sorted order.
      head: JSON of the `ModelSettings` of a head that is solved. Views are then added one by one,
        as long as they make this head better; see `choose_views`. "" makes all views at once.
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
    if head and plan.shapes.dim and plan.views:
        choose_views(beam_pipeline, plan, examples.uri, features.uri, facts, head, vocabulary)
    else:
        _extract(beam_pipeline, plan, examples.uri, features.uri, facts)
