"""CrossValidator: blesses on k folds over train and validation, where validation is too small.

It judges how the head is made, not one head: each fold trains one on the bank as the Trainer does
and scores it on pictures it never saw. See `imgpipe.models.cross_validation`.
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
    """Train and score a head for every fold; bless on the mean.

    Args:
      bank: FeatureBank's features.
      examples: kept images, for the groups that the source gives.
      quarantine: of ImageFilter, for the groups of near-duplicates.
      blessing: BLESSED or NOT_BLESSED, and ``cross_validation.json``.
      folds: how many.
      threshold: mean accuracy to reach.
      classes: their number.
      settings: JSON of the Trainer's ModelSettings.
      code: address of the training code, for the cache alone.
    """
    require_features(read_facts(bank.uri), "evaluate.cross_validate")
    rows = join([read_split(bank.uri, split, classes) for split in _SPLITS])
    hashes = sorted({bytes(digest) for digest in rows.hashes})
    groups, apart = together(
        hashes, source_groups(examples.uri), near_groups(quarantine.uri), len(hashes) // folds
    )
    made_by = ModelSettings.from_mapping(json.loads(settings))
    found = cross_validate(rows, folds, classes, made_by, groups).summary()
    blessed = found["mean"] >= threshold - blessings.SLACK
    result = {
        **found,
        "threshold": threshold,
        "blessed": blessed,
        "alike_apart": apart,
        "fine_tuned": made_by.fine_tune.wanted,
    }
    records.write_json(f"{blessing.uri}/{RESULT}", result)
    blessings.write(blessing.uri, blessings.BLESSED if blessed else blessings.NOT_BLESSED)
    blessing.set_int_custom_property("blessed", int(blessed))


def source_groups(examples_uri: str) -> list[list[bytes]]:
    """Content hashes of images that the source says belong together, a list a group."""
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
    """Content hashes of the near-duplicates that stayed, a list a group."""
    path = f"{quarantine_uri}/{NEAR_FILE}"
    if not tf.io.gfile.exists(path):
        return []
    with tf.io.gfile.GFile(path, "r") as file:
        groups = [json.loads(line)["members"] for line in file.read().splitlines()]
    return [[m["image_hash"].encode() for m in group if m["stays"]] for group in groups]


def together(
    hashes: Sequence[bytes],
    given: Iterable[Sequence[bytes]],
    near: Iterable[Sequence[bytes]],
    largest: int,
) -> tuple[dict[bytes, str], int]:
    """What must not straddle folds, by content hash.

    The source's groups always hold. Near-duplicates share a side too, as long as what hangs
    together is no more than a fold: in sets of alike pictures chains of them run through
    everything, and a fold of all pictures would judge nothing.

    Args:
      hashes: of all images.
      given: the source's groups.
      near: groups of near-duplicates.
      largest: images of a fold.

    Returns:
      Name of the group by hash, and how many near-duplicates had to be left apart.
    """
    root = {digest: digest for digest in hashes}
    size = Counter(hashes)

    def find(digest: bytes) -> bytes:
        while root[digest] != digest:
            root[digest] = root[root[digest]]
            digest = root[digest]
        return digest

    def join_all(members: Sequence[bytes]) -> None:
        tops = sorted({find(digest) for digest in members})
        for top in tops[1:]:
            root[top] = tops[0]
            size[tops[0]] += size[top]

    apart = 0
    for members in _known(given, root):
        join_all(members)
    for members in sorted(_known(near, root), key=lambda group: (len(group), group)):
        if sum(size[top] for top in {find(digest) for digest in members}) <= largest:
            join_all(members)
        else:
            apart += len(members)
    return {digest: find(digest).decode() for digest in hashes}, apart


def _known(groups: Iterable[Sequence[bytes]], hashes: Mapping[bytes, Any]) -> Iterable[list[bytes]]:
    """The groups without images that are not there; those of one image say nothing."""
    found = (sorted({digest for digest in group if digest in hashes}) for group in groups)
    return [group for group in found if len(group) > 1]
