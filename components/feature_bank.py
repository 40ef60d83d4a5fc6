"""FeatureBank: the frozen backbone, once per image and view.

The output artifact holds every vector the Trainer needs, so lineage and Kubeflow see it; the
store behind it only saves forward passes between runs. Training images get the clean view and K
augmented ones, the other splits the clean view.
"""

import functools
import json
from collections.abc import Iterator
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

from components import beam_io, records
from components.artifacts import DataBlessing
from components.bank_store import FeatureStore, record_key
from components.blessings import require_data_blessing
from models import feature_names as names
from models import progress
from models.augmentation import ViewSpec
from models.extractor import FeatureExtractor

#: A batch is at most 256 images and 32 MiB (and one image): enough for decoding to overlap the
#: forward pass, and bounded whatever the camera.
_BATCH_BYTES = 32 << 20
_LEAST_BYTES = _BATCH_BYTES // 256


@functools.lru_cache(maxsize=2)
def shared_extractor(
    backbone: str, image_size: int, precision: str, views: str
) -> FeatureExtractor:
    """One extractor a process, however many threads the runner has."""
    return FeatureExtractor(
        backbone=backbone,
        image_size=image_size,
        precision=precision,
        views=ViewSpec(**json.loads(views)),
    )


class ExtractFeatures(beam.DoFn):
    """Batches of image examples to (split, bank record); counts on the tag ``counts``."""

    COUNTS = "counts"

    def __init__(self, extractor: tuple[str, int, str, str], store: str) -> None:
        self._arguments = extractor
        self._store_directory = store

    def setup(self) -> None:
        """Open the extractor (lazily built) and the store on the worker."""
        self._extractor = shared_extractor(*self._arguments)
        self._views = json.loads(self._arguments[3])["count"]
        self._store = FeatureStore(Path(self._store_directory), self._extractor.dim)

    def teardown(self) -> None:
        """Close the store."""
        self._store.close()

    def process(self, batch: list[bytes]) -> Iterator[Any]:
        """Look up every (image, view), compute what is missing, keep it, emit all."""
        examples = [tf.train.Example.FromString(record) for record in batch]
        hashes = [records.content_hash(example) for example in examples]
        views = [self._views_of(records.text(example, names.SPLIT)) for example in examples]
        keys = {
            (i, view): record_key(hashes[i], self._extractor.key(view))
            for i in range(len(examples))
            for view in views[i]
        }
        vectors = self._store.get(list(keys.values()))
        missing = [
            [view for view in views[i] if keys[i, view] not in vectors]
            for i in range(len(examples))
        ]
        todo = [i for i, wanted in enumerate(missing) if wanted]
        fresh: dict[bytes, np.ndarray] = {}
        if todo:
            computed = self._extractor.extract(
                [records.raw(examples[i], names.IMAGE_BYTES) for i in todo],
                [hashes[i] for i in todo],
                [missing[i] for i in todo],
            )
            for i, rows in zip(todo, computed, strict=True):
                fresh.update(
                    {keys[i, view]: row for view, row in zip(missing[i], rows, strict=True)}
                )
            self._store.put(fresh)
            vectors.update(fresh)
        progress.advance(len(examples), "images")
        yield beam.pvalue.TaggedOutput(self.COUNTS, (len(fresh), len(keys) - len(fresh)))
        for (i, view), key in keys.items():
            yield _bank_record(examples[i], view, vectors[key])

    def _views_of(self, split: str) -> list[int]:
        return list(range(self._views + 1)) if split == names.TRAIN else [0]


def _weight(record: bytes) -> int:
    """Bytes that a record counts for in a batch."""
    return max(len(record), _LEAST_BYTES)


def _bank_record(example: tf.train.Example, view: int, vector: np.ndarray) -> tuple[str, bytes]:
    split = records.text(example, names.SPLIT)
    values: dict[str, records.Value] = {
        names.SPLIT: split,
        names.VIEW: view,
        names.IMAGE_HASH: records.raw(example, names.IMAGE_HASH),
        names.PATH: records.raw(example, names.PATH),
        names.LABEL_INDEX: records.integer(example, names.LABEL_INDEX, -1),
        names.FEATURES: np.asarray(vector, "<f2").tobytes(),
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
    data_blessing: InputArtifact[DataBlessing],
    features: OutputArtifact[Examples],
    backbone: Parameter[str],
    image_size: Parameter[int],
    precision: Parameter[str],
    views: Parameter[str],
    weights_key: Parameter[str],
    store: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Extract the features of every kept image.

    Args:
      examples: kept images, splits train, validation and test.
      data_blessing: of DataGate; without it nothing is computed.
      features: bank records and ``bank.json`` (dim, views, forward passes, reused).
      backbone: name in the backbone registry.
      image_size: pixels, the side the backbone sees.
      precision: "auto", "bfloat16" or "float32".
      views: JSON of the ViewSpec.
      weights_key: address of weights and preprocessing; changes invalidate the cached output.
      store: folder of the content-addressed store.
      beam_pipeline: given by TFX.
    """
    require_data_blessing(data_blessing.uri)
    beam_io.mark_examples(features)
    arguments = (backbone, image_size, precision, views)
    extractor = shared_extractor(*arguments)
    facts = {
        "dim": extractor.dim,
        "backbone": backbone,
        "image_size": image_size,
        "views": json.loads(views)["count"],
        "weights_key": weights_key,
        "precision": extractor.precision,
    }
    with beam_pipeline as pipeline:
        outputs = (
            pipeline
            | "Read" >> beam_io.ReadSplits(examples.uri)
            | "Batch" >> beam.BatchElements(_BATCH_BYTES, _BATCH_BYTES, element_size_fn=_weight)
            | "Extract"
            >> beam.ParDo(ExtractFeatures(arguments, store)).with_outputs(
                ExtractFeatures.COUNTS, main="features"
            )
        )
        _ = outputs.features | "Write" >> beam_io.WriteSplits(features.uri)
        _ = (
            outputs[ExtractFeatures.COUNTS]
            | "Sum" >> beam.CombineGlobally(_add_counts)
            | "Facts" >> beam.Map(_write_bank_json, features.uri, facts)
        )
