"""Reads the feature bank: rows of stored features in an order that is always the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from imgpipe.models import feature_names as names
from imgpipe.models.errors import ConfigError, DataRefused, ResourceError
from imgpipe.models.examples import Labelled
from imgpipe.models.features import folds, rows
from imgpipe.models.settings import ModelSettings

BANK_FILE: Final = "bank.json"

Names = npt.NDArray[np.bytes_]


@dataclass(frozen=True)
class BankRows:
    """The labelled rows of some splits, sorted by image hash and view.

    Attributes:
        features: Features, float16 [n, dim]; in a mapped file if there are many, see `rows.empty`.
        labels: Label indices, int64 [n].
        views: Numbers of the views, [n]; 0 is the image itself.
        hashes: Content hashes of the images, bytes [n].
        groups: Names of the groups of images that must be in one fold, bytes [n]. Without them,
            each image is a group by itself.
        separated: Number of near-duplicates that may be in different folds, because more images
            hang together than a fold has.
        sizes: Number of features in each block, such as the means of one feature map; () if all of
            them are one block.
    """

    features: rows.Rows
    labels: npt.NDArray[np.int64]
    views: npt.NDArray[np.integer[Any]]
    hashes: Names
    groups: Names = field(default_factory=lambda: np.empty(0, "S1"))
    separated: int = 0
    sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.groups) != len(self.hashes):
            # A frozen dataclass can set its fields only in this way.
            object.__setattr__(self, "groups", self.hashes)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def clean(self) -> npt.NDArray[np.bool_]:
        """Whether each row is that of an image itself, and not of an augmented view, bool [n]."""
        return np.asarray(self.views == 0)

    def select(self, keep: npt.NDArray[np.bool_]) -> BankRows:
        """Return the rows for which `keep`, bool [n], is true; see `rows.take`."""
        return replace(
            self,
            features=rows.take(self.features, np.flatnonzero(keep)),
            labels=self.labels[keep],
            views=self.views[keep],
            hashes=self.hashes[keep],
            groups=self.groups[keep],
        )

    def blocks(self, numbers: Sequence[int]) -> BankRows:
        """Return the rows with the features of some blocks alone.

        Args:
            numbers: Numbers of the blocks, from 0 on.
        """
        if len(numbers) == len(self.sizes):
            return self
        ends = np.cumsum((0, *self.sizes))
        parts = [self.features[:, ends[number] : ends[number + 1]] for number in numbers]
        sizes = tuple(self.sizes[number] for number in numbers)
        return replace(
            self, features=parts[0] if len(parts) == 1 else np.concatenate(parts, 1), sizes=sizes
        )

    def first_block(self) -> BankRows:
        """Return the rows with the features of the first block alone."""
        return self.blocks((0,)) if self.sizes else self

    def some_clean(self, count: int) -> BankRows:
        """Return at most `count` rows of view 0, evenly sampled."""
        # Rows are sorted by content hash, so evenly spaced ones are a random sample of the images.
        clean = np.flatnonzero(self.clean)
        keep = np.zeros(len(self), np.bool_)
        keep[clean[:: max(1, -(-len(clean) // count))]] = True
        return self.select(keep)

    def folds(self, count: int) -> npt.NDArray[np.int64]:
        """Return the fold of each row, [n], 0 to count - 1; see `folds.assign`."""
        return folds.assign(self.labels, self.groups, count, self.clean)


class BankFacts(NamedTuple):
    """Description of a feature bank, as it stands in bank.json."""

    sizes: tuple[int, ...]  # number of features in each block; () when the bank holds none
    note: str = ""  # why the bank holds less than was asked for; "" when it holds everything
    precision: str = "auto"  # precision of the forward passes, see `FeatureExtractor`
    features: str = ""  # what the head reads, as the setting `features` names it
    image_size: int = 0  # side in pixels of the images that the network sees

    @property
    def dim(self) -> int:
        """Length of a feature vector; 0 when the bank holds none."""
        return sum(self.sizes)

    def decided(self, settings: ModelSettings) -> ModelSettings:
        """Return settings with what the bank has decided: features and size of the images."""
        if not self.features:
            return settings
        size = settings.image_size if self.image_size == settings.size else self.image_size
        return replace(settings, features=self.features, image_size=size)


def read_facts(bank_uri: str) -> BankFacts:
    """Read the description of a bank from its bank.json.

    Raises:
        ResourceError: The file is missing or is not a description of a bank.
    """
    import tensorflow as tf

    path = f"{bank_uri.rstrip('/')}/{BANK_FILE}"
    try:
        with tf.io.gfile.GFile(path) as file:
            facts = json.load(file)
        return BankFacts(
            tuple(map(int, facts["sizes"])),
            facts.get("note", ""),
            facts.get("precision", "auto"),
            facts.get("features", ""),
            int(facts.get("image_size", 0)),
        )
    except (tf.errors.OpError, ValueError, KeyError, TypeError) as error:
        raise ResourceError(
            f"feature bank: {path} cannot be read ({error}). Run FeatureBank again"
        ) from error


def read_rows(
    bank_uri: str,
    splits: str | tuple[str, ...],
    classes: int,
    most_view: int | None = None,
    count: int = folds.FOLDS,
) -> BankRows:
    """Read the labelled rows of a split or of several, which are sorted as those of one.

    Rows without a label (index -1) are left out.

    Args:
        bank_uri: URI of the artifact of FeatureBank.
        splits: Name of the split, or names of splits.
        classes: Number of classes.
        most_view: Highest view that is wanted; None is all of them.
        count: Number of folds that the groups must fit into.

    Raises:
        ConfigError: The bank holds no features.
        ResourceError: A record has another number of features than bank.json says.
        DataRefused: A label lies outside the vocabulary of `classes` names.
    """
    facts, folder = read_facts(bank_uri), bank_uri.rstrip("/")
    if not facts.dim:
        raise ConfigError(
            f"the feature bank holds no features: {facts.note}. Folds (evaluate.cross_validate) "
            "need them: set it to 0"
        )
    every = (splits,) if isinstance(splits, str) else splits
    patterns = [f"{folder}/Split-{split}/data_tfrecord-*" for split in every]
    # The records are read twice: first without their features, to learn the order of the rows, then
    # with them. So the features go straight to their places and are never in memory together.
    table = Labelled.read(patterns, most_view)
    if len(table) and table.labels.max() >= classes:
        raise DataRefused(
            f"feature bank: split {splits} holds label index {table.labels.max()}, the vocabulary "
            f"has {classes} names. The bank and the vocabulary come from different runs"
        )
    features = rows.empty(len(table), (facts.dim,), np.float16)
    for places, values in table.values(names.FEATURES):
        if wrong := next((len(v) for v in values if len(v) != 2 * facts.dim), None):
            raise ResourceError(
                f"feature bank {folder}: expected {2 * facts.dim} bytes of features a record (dim "
                f"{facts.dim}, float16). Received: {wrong}. Run FeatureBank again"
            )
        features[places] = np.frombuffer(b"".join(values), "<f2").reshape(-1, facts.dim)
        rows.release(features)
    largest = len(np.unique(table.hashes)) // count
    groups, separated = folds.find_groups(table.hashes, table.groups, table.near, largest)
    return BankRows(
        features, table.labels, table.views, table.hashes, groups, separated, facts.sizes
    )
