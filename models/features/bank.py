"""Reads the feature bank: rows of stored features in an order that is always the same."""

from __future__ import annotations

import contextlib
import ctypes
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from imgpipe.models import feature_names as names
from imgpipe.models.errors import ConfigError, DataRefused, ResourceError
from imgpipe.models.features.columns import columns
from imgpipe.models.features.folds import FOLDS
from imgpipe.models.features.hash_column import HashColumn, Short, distinct, shortened
from imgpipe.models.features.image_groups import ImageGroups, find_groups
from imgpipe.models.features.row_file import RowFile, Rows, selected

BANK_FILE: Final = "bank.json"


@dataclass(frozen=True)
class BankRows:
    """The labelled rows of one split, sorted by image hash and view.

    `features` is float16 [n, dim], `labels` int64 [n], `views` int16 [n], `hashes` names [n].
    `groups` is [n], the name of the group of images that must be in one fold; without it each image
    is a group by itself. `separated` is the number of near-duplicates that may be in different
    folds, because more images hang together than a fold has. Besides the features, a row takes 18
    bytes, and 32 for each image.
    """

    features: Rows
    labels: npt.NDArray[np.int64]
    views: npt.NDArray[np.integer[Any]]
    hashes: HashColumn
    groups: HashColumn = field(default_factory=lambda: HashColumn.of(np.empty(0, "S1")))
    separated: int = 0

    def __post_init__(self) -> None:
        """Accept names as arrays; makes each image a group by itself where none are given."""
        # A frozen dataclass can set its fields only in this way.
        object.__setattr__(self, "hashes", HashColumn.of(self.hashes))
        given = len(self.groups) == len(self.hashes)
        object.__setattr__(self, "groups", HashColumn.of(self.groups) if given else self.hashes)

    def __len__(self) -> int:
        return len(self.labels)

    def up_to(self, view: int) -> BankRows:
        """Return the rows of view 0 and of the augmented views up to number `view`."""
        return self.select(self.views <= view)

    def select(self, keep: npt.NDArray[np.bool_]) -> BankRows:
        """Return the rows for which `keep`, bool [n], is true; see `row_file.selected`."""
        features = selected(self.features, np.flatnonzero(keep))
        labels, views, hashes = self.labels[keep], self.views[keep], self.hashes[keep]
        return BankRows(features, labels, views, hashes, self.groups[keep], self.separated)

    def some_clean(self, count: int) -> BankRows:
        """Return at most `count` rows of view 0, evenly sampled; see `row_file.selected`."""
        # Rows are sorted by content hash, so evenly spaced ones are a random sample of the images.
        clean = np.flatnonzero(self.views == 0)
        keep = np.zeros(len(self), np.bool_)
        keep[clean[:: max(1, -(-len(clean) // count))]] = True
        return self.select(keep)


@dataclass(frozen=True)
class BankFacts:
    """Description of a feature bank, as it stands in bank.json.

    Attributes:
        dim: Length of a feature vector; 0 when the bank holds no vectors.
        note: Why the bank holds less than was asked for; "" when it holds everything.
        made_by: Fingerprint of weights, preprocessing, augmentation and precision.
        precision: Precision of the forward passes, see `extractor.PRECISIONS`.
    """

    dim: int
    note: str = ""
    made_by: str = ""
    precision: str = "auto"


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
            int(facts["dim"]),
            facts.get("note", ""),
            f"{facts.get('weights_key', '')} {facts.get('precision', '')}",
            facts.get("precision", "auto"),
        )
    except (tf.errors.OpError, ValueError, KeyError, TypeError) as error:
        raise ResourceError(
            f"feature bank: {path} cannot be read ({error}). Run FeatureBank again"
        ) from error


def require_features(facts: BankFacts, setting: str) -> None:
    """Raise an error when the bank holds no features.

    Args:
        facts: Description of the bank.
        setting: Name of the setting that needs features, such as
            "evaluate.cross_validate", for the message.

    Raises:
        ConfigError: The bank holds no features.
    """
    if not facts.dim:
        raise ConfigError(
            f"{setting} needs stored features, and the bank holds none: {facts.note}. Set it to 0"
        )


def read_dim(bank_uri: str) -> int:
    """Read the length of the bank's feature vectors from its bank.json."""
    return read_facts(bank_uri).dim


@dataclass(frozen=True)
class BankTable:
    """The labelled rows of a split, sorted by image hash and view, without their features.

    Attributes:
        labels: Label indices, int64 [n].
        views: Numbers of the views, int16 [n].
        hashes: Content hashes of the images, [n].
        sources: Groups that the data source gives, bytes [n]; b"" for none.
        near: Numbers of the groups of near-duplicates, int64 [n]; 0 for none.
    """

    labels: npt.NDArray[np.int64]
    views: npt.NDArray[np.int16]
    hashes: HashColumn
    sources: npt.NDArray[np.bytes_]
    near: npt.NDArray[np.int64]
    _uri: str
    _files: Sequence[str]
    _places: npt.NDArray[np.int64]  # row of each record; -1 for records that are left out
    _dim: int

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float16]]]:
        """Yield row numbers [m] and features [m, dim] of all rows, in the order of the records.

        Raises:
            ResourceError: A record has another number of features than bank.json says.
        """
        done = 0
        for parsed in columns(self._files, names.FEATURES):
            rows = _decoded(parsed[names.FEATURES], self._dim, self._uri)
            here = self._places[done : done + len(rows)]
            done += len(rows)
            yield here[here >= 0], rows[here >= 0]

    def gather(self, wanted: npt.NDArray[np.int64]) -> npt.NDArray[np.float16]:
        """Read the features of some rows, for which all records are read once.

        Args:
            wanted: Different row numbers in ascending order, int64 [m].

        Returns:
            The features, [m, dim].

        Raises:
            ResourceError: A record has another number of features than bank.json says.
        """
        found = np.empty((len(wanted), self._dim), np.float16)
        for rows, features in self.batches() if len(wanted) else ():
            mine = np.isin(rows, wanted)
            found[np.searchsorted(wanted, rows[mine])] = features[mine]
        return found


def read_table(
    bank_uri: str, split: str | tuple[str, ...], classes: int, most_view: int | None = None
) -> BankTable:
    """Read the labelled rows of a split or of several, without their features.

    Args:
        bank_uri: URI of the artifact of FeatureBank.
        split: Name of the split, or names of splits.
        classes: Number of classes.
        most_view: Highest view that is wanted; None is all of them.

    Raises:
        DataRefused: A label lies outside the vocabulary of `classes` names.
    """
    table = _read_table(bank_uri, split, most_view, read_dim(bank_uri))
    _release_freed_memory()
    if len(table) and table.labels.max() >= classes:
        raise DataRefused(
            f"feature bank: split {split} holds label index {table.labels.max()}, the vocabulary "
            f"has {classes} names. The bank and the vocabulary come from different runs"
        )
    return table


@contextlib.contextmanager
def open_split(
    bank_uri: str,
    split: str | tuple[str, ...],
    classes: int,
    most_view: int | None = None,
    folds: int = FOLDS,
) -> Iterator[BankRows]:
    """Open the labelled rows of a split or of several, whose features are in a `RowFile`.

    Rows without a label (index -1) are left out. Those of several splits are sorted as those of
    one.

    Args:
        bank_uri: URI of the artifact of FeatureBank.
        split: Name of the split, or names of splits.
        classes: Number of classes.
        most_view: Highest view that is wanted; None is all of them.
        folds: Number of folds that the groups must fit into.

    Raises:
        ResourceError: A record is not what bank.json says.
        DataRefused: A label lies outside the vocabulary of `classes` names.
    """
    # The records are read twice: first without their vectors, to learn the order of the rows, then
    # with them. So the vectors go straight to their positions and are never in memory together.
    table = read_table(bank_uri, split, classes, most_view)
    with RowFile(len(table), (read_dim(bank_uri),), np.float16) as features:
        features.fill(table.batches())
        groups = _groups(table, folds)
        rows = BankRows(
            features, table.labels, table.views, table.hashes, groups.names, groups.separated
        )
        del table  # the positions of the records are not needed any longer
        _release_freed_memory()
        yield rows


def _groups(table: BankTable, folds: int) -> ImageGroups:
    largest = distinct(table.hashes) // folds
    return find_groups(table.hashes, table.sources, table.near, largest)


def _read_table(
    uri: str, split: str | tuple[str, ...], most_view: int | None, dim: int
) -> BankTable:
    """Read the records of a split without their vectors."""
    label: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)]
    view: list[npt.NDArray[np.int16]] = [np.empty(0, np.int16)]
    source: list[npt.NDArray[np.bytes_]] = [np.empty(0, "S1")]
    near: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)]
    short: list[Short] = []
    wanted_names = (names.LABEL_INDEX, names.VIEW, names.IMAGE_HASH, names.GROUP, names.NEAR_GROUP)
    files = _files(uri, split)
    for parsed in columns(files, *wanted_names):
        label.append(parsed[names.LABEL_INDEX])
        view.append(parsed[names.VIEW].astype(np.int16))
        source.append(parsed[names.GROUP].astype("S"))
        near.append(parsed[names.NEAR_GROUP])
        short.append(shortened(parsed[names.IMAGE_HASH].astype("S")))  # half of their memory
    labels, views, sources = np.concatenate(label), np.concatenate(view), np.concatenate(source)
    hashes = HashColumn.joined(short)
    order = np.lexsort((views, hashes.numbers))
    wanted = labels[order] >= 0
    if most_view is not None:
        wanted &= views[order] <= most_view
    order = order[wanted]
    positions = np.full(len(labels), -1, np.int64)
    positions[order] = np.arange(len(order))
    rows = hashes[order].compact()  # `find_groups` expects no hashes without a row
    return BankTable(
        labels[order],
        views[order],
        rows,
        sources[order],
        np.concatenate(near)[order],
        uri,
        files,
        positions,
        dim,
    )


def _files(uri: str, split: str | tuple[str, ...]) -> list[str]:
    import tensorflow as tf

    splits = (split,) if isinstance(split, str) else split
    folder = uri.rstrip("/")
    patterns = [f"{folder}/Split-{split}/data_tfrecord-*" for split in splits]
    return [file for one in patterns for file in sorted(tf.io.gfile.glob(one))]


def _decoded(values: npt.NDArray[Any], dim: int, uri: str) -> npt.NDArray[np.float16]:
    """Return float16 [n, dim] from n byte strings."""
    expected = dim * np.dtype(np.float16).itemsize
    wrong = next((len(value) for value in values if len(value) != expected), None)
    if wrong is not None:
        raise ResourceError(
            f"feature bank {uri}: expected {expected} bytes of features a record (dim {dim}, "
            f"float16). Received: {wrong}. Run FeatureBank again"
        )
    vectors = np.frombuffer(b"".join(values), "<f2").astype(np.float16, copy=False)
    return vectors.reshape(len(values), dim)


def _release_freed_memory() -> None:
    """Return freed memory to the operating system, if the C library has a function for it.

    The C library keeps the memory of many small arrays after they are gone, because holes between
    other arrays might be used again. After the columns of a million records were read, these were
    90 MiB.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
    if trim is not None:
        trim(0)
