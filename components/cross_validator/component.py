"""CrossValidator: blesses by k-fold cross-validation, for data with a small validation split.

It evaluates the recipe for the head, not a single head. For each fold of train and validation it
trains a head on the other folds as ImageTrainer does, and evaluates it on the images of the fold.
See `imgpipe.models.cross_validation`.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples, ModelBlessing

from imgpipe.components import blessings, records
from imgpipe.components.artifacts import Quarantine
from imgpipe.components.image_filter.near_duplicates.beam_steps import FILE as NEAR_FILE
from imgpipe.models import feature_names as names
from imgpipe.models.bank import read_facts, read_split, require_features
from imgpipe.models.cross_validation import cross_validate, join
from imgpipe.models.settings import ModelSettings

RESULT = "cross_validation.json"
_SPLITS = (names.TRAIN, names.VALIDATION)


@component
def CrossValidator(
    bank: InputArtifact[Examples],
    examples: InputArtifact[Examples],
    quarantine: InputArtifact[Quarantine],
    blessing: OutputArtifact[ModelBlessing],
    folds: Parameter[int],
    threshold: Parameter[float],
    classes: Parameter[int],
    settings: Parameter[str],
    code: Parameter[str],
) -> None:
    """Train and evaluate a head for every fold, and bless by the mean accuracy.

    Args:
      bank: Features of FeatureBank.
      examples: Kept images, which name the groups of the source.
      quarantine: Quarantine of ImageFilter, which lists the groups of near-duplicates.
      blessing: Output: BLESSED or NOT_BLESSED, and ``cross_validation.json``.
      folds: Number of folds.
      threshold: Mean accuracy that must be reached, 0 to 1.
      classes: Number of classes.
      settings: JSON of the ModelSettings of ImageTrainer.
      code: Fingerprint of the training code, which is part of TFX's cache key.

    Raises:
      ConfigError: The feature bank holds no features.
    """
    require_features(read_facts(bank.uri), "evaluate.cross_validate")
    rows = join([read_split(bank.uri, split, classes) for split in _SPLITS])
    hashes = sorted({bytes(digest) for digest in rows.hashes})
    groups, separated = fold_groups(
        hashes, source_groups(examples.uri), near_groups(quarantine.uri), len(hashes) // folds
    )
    model_settings = ModelSettings.from_mapping(json.loads(settings))
    found = cross_validate(rows, folds, classes, model_settings, groups).summary()
    blessed = found["mean"] >= threshold - blessings.SLACK
    result = {
        **found,
        "threshold": threshold,
        "blessed": blessed,
        "alike_apart": separated,
        "fine_tuned": model_settings.fine_tune.wanted,
    }
    records.write_json(f"{blessing.uri}/{RESULT}", result)
    blessings.write(blessing.uri, blessings.BLESSED if blessed else blessings.NOT_BLESSED)
    blessing.set_int_custom_property("blessed", int(blessed))


def source_groups(examples_uri: str) -> list[list[bytes]]:
    """Groups that the source defines, each as a list of content hashes."""
    spec = {
        names.IMAGE_HASH: tf.io.FixedLenFeature([], tf.string),
        names.GROUP: tf.io.FixedLenFeature([], tf.string, ""),
    }
    files = [path for split in _SPLITS for path in records.shard_files(examples_uri, split)]
    dataset = tf.data.TFRecordDataset(files).map(
        lambda record: tf.io.parse_single_example(record, spec),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    found: dict[bytes, list[bytes]] = {}
    for one in dataset.as_numpy_iterator():
        if one[names.GROUP]:
            found.setdefault(one[names.GROUP], []).append(one[names.IMAGE_HASH])
    return list(found.values())


def near_groups(quarantine_uri: str) -> list[list[bytes]]:
    """Groups of near-duplicates, each as a list of the content hashes of its kept images."""
    path = f"{quarantine_uri}/{NEAR_FILE}"
    if not tf.io.gfile.exists(path):
        return []
    with tf.io.gfile.GFile(path, "r") as file:
        groups = [json.loads(line)["members"] for line in file.read().splitlines()]
    return [[m["image_hash"].encode() for m in group if m["stays"]] for group in groups]


def fold_groups(
    hashes: Sequence[bytes],
    given: Iterable[Sequence[bytes]],
    near: Iterable[Sequence[bytes]],
    largest: int,
) -> tuple[dict[bytes, str], int]:
    """Merge the groups of images that must be in the same fold.

    Groups of the source are always kept together. Near-duplicates are kept together only while the
    merged group is not larger than a fold: in a set of similar images, chains of near-duplicates
    can connect all images, and a single fold of all images would evaluate nothing.

    Args:
      hashes: Content hashes of all images.
      given: Groups that the source defines.
      near: Groups of near-duplicates.
      largest: Number of images in a fold.

    Returns:
      The name of the group by content hash, and the number of near-duplicates in groups that were
      not kept together.
    """
    root = {digest: digest for digest in hashes}
    size = Counter(hashes)

    def find(digest: bytes) -> bytes:
        while root[digest] != digest:
            root[digest] = root[root[digest]]
            digest = root[digest]
        return digest

    def merge(members: Sequence[bytes]) -> None:
        roots = sorted({find(digest) for digest in members})
        for other in roots[1:]:
            root[other] = roots[0]
            size[roots[0]] += size[other]

    separated = 0
    for members in _known(given, root):
        merge(members)
    for members in sorted(_known(near, root), key=lambda group: (len(group), group)):
        if sum(size[top] for top in {find(digest) for digest in members}) <= largest:
            merge(members)
        else:
            separated += len(members)
    return {digest: find(digest).decode() for digest in hashes}, separated


def _known(groups: Iterable[Sequence[bytes]], hashes: Mapping[bytes, Any]) -> Iterable[list[bytes]]:
    """The groups reduced to images in `hashes`, without groups of fewer than two images."""
    found = (sorted({digest for digest in group if digest in hashes}) for group in groups)
    return [group for group in found if len(group) > 1]
