"""Reads the feature bank: rows of stored features in an order that is always the same."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Annotated, Final, Literal, NamedTuple

import numpy as np
from pydantic import TypeAdapter
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.models import names
from imgpipe.models.arrays import Array, Flags, Integers, Names
from imgpipe.models.errors import ConfigError, DataRefused, ResourceError
from imgpipe.models.features import folds, rows
from imgpipe.models.features.rows import ColumnTable, Labelled
from imgpipe.models.settings.settings import Settings

BANK_FILE: Final = "bank.json"


HeadMethod = Literal["logistic_regression", "ridge_regression"]


class Regression(NamedTuple):
    """How a head is solved: the method, and the penalty of the weights."""

    method: HeadMethod
    l2: float


class JudgedFeatures(TypedDict):
    """Features with which a head was judged."""

    features: Annotated[str, "What the head read, as the setting `model.features` names it."]
    image_size: Annotated[int, "Width and height of the images that the backbone received."]
    accuracy: Annotated[float, "Accuracy of the head over the folds of a sample."]
    method: Annotated[HeadMethod, "What is solved."]
    l2: Annotated[float, "Penalty of the weights. Both have the lowest loss over the folds."]


class FeatureDecision(TypedDict):
    """How the features of a bank were chosen, which later runs in the output folder keep."""

    time: Annotated[str, "When, in local time: the run that was working then has decided."]
    images: Annotated[int, "Number of training images by which it was decided."]
    tried: Annotated[list[JudgedFeatures], "The features of which these were chosen."]


class BankFacts(TypedDict):
    """The content of `bank.json`, which describes a feature bank."""

    sizes: Annotated[list[int], "Number of features in each block; none if nothing is stored."]
    note: Annotated[str, "Why it holds less than was asked for; empty if it holds everything."]
    features: Annotated[str, "What a head reads of them, as the setting `model.features` names it."]
    image_size: Annotated[int, "Width and height of the images that the backbone receives."]
    axes: Annotated[str, "SHA-256 of the axes of covariances; empty without covariances."]
    precision: Annotated[str, "Precision of the forward passes: float32 or bfloat16."]
    validation_drawn: Annotated[
        bool, "Whether the run has drawn the images of validation; else the source names them."
    ]
    decision: Annotated[
        FeatureDecision | None, "How the features were chosen; none if there was no choice."
    ]
    forward_passes: Annotated[int, "Images and views that went through the backbone."]
    reused: Annotated[int, "Images and views whose features were already stored."]


@dataclass(frozen=True)
class BankRows(ColumnTable):
    """The labelled rows of some splits, sorted by image hash and view.

    Attributes:
        features: Features, float16 [n, dim]; in a mapped file if there are many, see `rows.empty`.
        labels: Label indices, int64 [n].
        views: Numbers of the views, [n]; 0 is the image itself.
        hashes: Content hashes of the images, bytes [n].
        groups: Names of the families of the images, each of which must be in one fold, bytes [n].
        sizes: Number of features in each block, such as the means of one feature map; () if all of
            them are one block.
        regression: What FeatureBank has chosen for a head on all blocks of such rows; None if it
            has chosen nothing.
    """

    features: Array
    labels: Integers
    views: Integers
    hashes: Names
    groups: Names
    sizes: tuple[int, ...] = ()
    regression: Regression | None = None

    @property
    def is_view_0(self) -> Flags:
        """Whether each row is that of an image itself, and not of an augmented view, bool [n]."""
        return np.asarray(self.views == 0)

    def block(self, number: int) -> BankRows:
        """Return the rows with the features of one block alone, by its number from 0 on."""
        start = sum(self.sizes[:number])
        size = self.sizes[number]
        features = self.features[:, start : start + size]
        return replace(self, features=features, sizes=(size,), regression=None)

    def first_block(self) -> BankRows:
        """Return the rows with the features of the first block alone."""
        return self.block(0) if self.sizes else self

    def sample_of_view_0(self, count: int) -> BankRows:
        """Return at most `count` rows of view 0, evenly sampled."""
        # Rows are sorted by content hash, so evenly spaced ones are a random sample of the images.
        originals = np.flatnonzero(self.is_view_0)
        return self.select(originals[:: max(1, -(-len(originals) // count))])

    def some_groups(self, count: int, least: int = 1) -> BankRows:
        """Return all views of `count` images: whole groups, where these are small.

        Of a large group, such as a long film, only so many images are returned that there is room
        for `least` groups.
        """
        images, first = np.unique(self.hashes, return_index=True)
        if len(images) <= count:
            return self
        group_of = self.groups[first]
        groups, sizes = np.unique(group_of, return_counts=True)
        most = max(1, count // least)
        taken = _taken_of_groups(groups, np.minimum(sizes, most), count)
        ranks = _ranks_in_groups(group_of, sizes)
        kept = images[ranks < taken[np.searchsorted(groups, group_of)]]
        return self.select(np.isin(self.hashes, kept))

    def folds(self, count: int) -> Integers:
        """Return the fold of each row, [n], 0 to count - 1; see `folds.assign`."""
        return folds.assign(self.labels, self.groups, count, self.is_view_0)


def _taken_of_groups(groups: Names, wanted: Integers, count: int) -> Integers:
    """Return how many images of each group are taken, so that there are `count` in all.

    `wanted` says how many images of each group may be taken, in the order of the names.
    """
    # By a hash, so that the choice depends on the images alone. The prefix makes the order another
    # one than that of `folds.assign`, which hashes the same names.
    salted = (hashlib.sha256(b"some:" + name).digest() for name in groups.tolist())
    numbers = (int.from_bytes(digest[:8]) for digest in salted)
    order = np.argsort(np.fromiter(numbers, np.uint64, len(groups)), kind="stable")
    in_order = wanted[order]
    taken_before = np.cumsum(in_order) - in_order
    taken = np.empty_like(wanted)
    taken[order] = np.clip(count - taken_before, 0, in_order)
    return taken


def _ranks_in_groups(group_of: Names, sizes: Integers) -> Integers:
    """Return the place of each image in its group, [n], from 0 on.

    The sizes are those of the groups in the order of their names.
    """
    by_group = np.argsort(group_of, kind="stable")
    starts = np.cumsum(sizes) - sizes
    ranks = np.empty(len(group_of), np.int64)
    ranks[by_group] = np.arange(len(group_of)) - np.repeat(starts, sizes)
    return ranks


def axes_file(folder: str, image_size: int) -> str:
    """Return the path of the axes of covariances, in a bank or in the folder of kept axes."""
    return f"{folder.rstrip('/')}/axes-{image_size}.npz"


def settings_of_bank(bank_uri: str, settings: Settings) -> Settings:
    """Return settings with what a bank has decided: features, size of the images, and axes."""
    facts = read_facts(bank_uri)
    image_size = facts["image_size"]
    axes = axes_file(bank_uri, image_size) if facts["axes"] else ""
    if image_size == settings.size:
        image_size = settings.model.image_size
    decided = settings.but(model={"features": facts["features"], "image_size": image_size})
    return decided.with_axes(axes)


def read_facts(bank_uri: str) -> BankFacts:
    """Read the description of a bank from its bank.json.

    Raises:
        ResourceError: The file is missing or is not a description of a bank.
    """
    import tensorflow as tf

    path = f"{bank_uri.rstrip('/')}/{BANK_FILE}"
    try:
        with tf.io.gfile.GFile(path) as file:
            return TypeAdapter(BankFacts).validate_python(json.load(file), strict=True)
    except (tf.errors.OpError, ValueError) as error:
        raise ResourceError(
            f"feature bank: {path} cannot be read ({error}). Run FeatureBank again"
        ) from error


def read_rows(
    bank_uri: str,
    splits: str | tuple[str, ...],
    classes: int,
    most_view: int | None = None,
) -> BankRows:
    """Read the labelled rows of a split or of several, which are sorted as those of one.

    Rows without a label (index -1) are left out.

    Args:
        bank_uri: URI of the artifact of FeatureBank.
        splits: Name of the split, or names of splits.
        classes: Number of classes.
        most_view: Highest view that is wanted; None is all of them.

    Raises:
        ConfigError: The bank holds no features.
        ResourceError: A record has another number of features than bank.json says.
        DataRefused: A label lies outside the vocabulary of `classes` names.
    """
    facts = read_facts(bank_uri)
    folder = bank_uri.rstrip("/")
    dim = sum(facts["sizes"])
    if not dim:
        raise ConfigError(
            f"the feature bank holds no features: {facts['note']}. Folds (evaluate.cross_validate) "
            "need them: set it to 0"
        )
    split_names = (splits,) if isinstance(splits, str) else splits
    patterns = [f"{folder}/Split-{split}/data_tfrecord-*" for split in split_names]
    # The records are read twice: first without their features, to learn the order of the rows, then
    # with them. So the features go straight to their places and are never in memory together.
    table = Labelled.read(patterns, most_view)
    if len(table) and table.labels.max() >= classes:
        raise DataRefused(
            f"feature bank: split {splits} holds label index {table.labels.max()}, the vocabulary "
            f"has {classes} names. The bank and the vocabulary come from different runs"
        )
    features = _read_features(table, dim, folder)
    return BankRows(
        features,
        table.labels,
        table.views,
        table.hashes,
        table.families,
        tuple(facts["sizes"]),
        _chosen_regression(facts),
    )


def _chosen_regression(facts: BankFacts) -> Regression | None:
    """Return how a head on the features of a bank is solved, if that was decided with them."""
    for tried in facts["decision"]["tried"] if facts["decision"] else ():
        if (tried["features"], tried["image_size"]) == (facts["features"], facts["image_size"]):
            return Regression(tried["method"], tried["l2"])
    return None


def _read_features(table: Labelled, dim: int, folder: str) -> Array:
    """Read the features, float16 [n, dim], of the rows of a table."""
    features = rows.empty(len(table), (dim,), np.float16)
    for places, values in table.values(names.FEATURES):
        wrong_lengths = [len(value) for value in values if len(value) != 2 * dim]
        if wrong_lengths:
            raise ResourceError(
                f"feature bank {folder}: expected {2 * dim} bytes of features a record (dim {dim}, "
                f"float16). Received: {wrong_lengths[0]}. Run FeatureBank again"
            )
        features[places] = np.frombuffer(b"".join(values), "<f2").reshape(-1, dim)
        rows.release(features)
    return features
