"""Reading the feature bank: rows of stored features in an order that is always the same."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from imgpipe.models import feature_names as names
from imgpipe.models.columns import columns
from imgpipe.models.errors import ConfigError, DataRefused, ResourceError
from imgpipe.models.file_patterns import matching
from imgpipe.models.scratch_array import scratch_array

BANK_FILE: Final = "bank.json"
ACTIVATIONS_FOLDER: Final = "activations"


@dataclass(frozen=True)
class BankRows:
    """The labelled rows of one split, sorted by image hash and view.

    `features` is float16 [n, dim], `labels` int64 [n], `views` int64 [n], `hashes` bytes [n].
    """

    features: npt.NDArray[np.float16]
    labels: npt.NDArray[np.int64]
    views: npt.NDArray[np.int64]
    hashes: npt.NDArray[np.bytes_]

    def __len__(self) -> int:
        return len(self.labels)

    def clean(self) -> BankRows:
        """Returns the rows of view 0, the image itself."""
        return self.up_to(0)

    def up_to(self, view: int) -> BankRows:
        """Returns the rows of the clean view and of the augmented views up to a number."""
        return self.select(self.views <= view)

    def select(self, keep: npt.NDArray[np.bool_]) -> BankRows:
        """Returns the rows for which `keep` [n] is true."""
        return BankRows(self.features[keep], self.labels[keep], self.views[keep], self.hashes[keep])


@dataclass(frozen=True)
class BankFacts:
    """Description of a feature bank, as it stands in bank.json.

    Attributes:
        dim: Length of a feature vector; 0 when the bank holds no vectors.
        activations: Shape (h, w, C) of the activations at the cut; () when the bank holds none.
        note: Why the bank holds less than was asked for; "" when it holds everything.
        made_by: Fingerprint of weights, preprocessing, augmentation and precision.
    """

    dim: int
    activations: tuple[int, ...] = ()
    note: str = ""
    made_by: str = ""


def read_facts(bank_uri: str) -> BankFacts:
    """Reads the description of a bank from its bank.json.

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
            tuple(facts.get("activations") or ()),
            facts.get("note", ""),
            f"{facts.get('weights_key', '')} {facts.get('precision', '')}",
        )
    except (tf.errors.OpError, ValueError, KeyError, TypeError) as error:
        raise ResourceError(
            f"feature bank: {path} cannot be read ({error}). Run FeatureBank again"
        ) from error


def require_features(facts: BankFacts, setting: str) -> None:
    """Raises an error when the bank holds no vectors.

    Raises:
        ConfigError: The bank holds none, and `setting`, such as "tune.trials", needs them.
    """
    if not facts.dim:
        raise ConfigError(
            f"{setting} needs stored features, and the bank holds none: {facts.note}. Set it to 0"
        )


def read_dim(bank_uri: str) -> int:
    """Reads the length of the bank's feature vectors from its bank.json."""
    return read_facts(bank_uri).dim


def read_split(bank_uri: str, split: str, classes: int) -> BankRows:
    """Reads all labelled rows of one split; rows without a label (index -1) are left out.

    Raises:
        ResourceError: A record is not what bank.json says.
        DataRefused: A label lies outside the vocabulary of `classes` names.
    """
    dim = read_dim(bank_uri)
    features: list[npt.NDArray[np.float16]] = [np.empty((0, dim), np.float16)]
    columns: dict[str, list[npt.NDArray[Any]]] = {
        names.LABEL_INDEX: [np.empty(0, np.int64)],
        names.VIEW: [np.empty(0, np.int64)],
        names.IMAGE_HASH: [np.empty(0, "S1")],
    }
    for parsed in _parsed(bank_uri, split, names.FEATURES):
        features.append(_decoded(parsed[names.FEATURES], dim, bank_uri))
        for name, parts in columns.items():
            column = parsed[name]
            parts.append(column.astype("S") if column.dtype == object else column)
    labels, views, hashes = (np.concatenate(parts) for parts in columns.values())
    if labels.size and labels.max() >= classes:
        raise DataRefused(
            f"feature bank: split {split} holds label index {labels.max()}, the vocabulary has "
            f"{classes} names. The bank and the vocabulary come from different runs"
        )
    order = np.lexsort((views, hashes))
    order = order[labels[order] >= 0]
    return BankRows(np.concatenate(features)[order], labels[order], views[order], hashes[order])


@contextlib.contextmanager
def read_activations(
    bank_uri: str, split: str, rows: BankRows
) -> Iterator[npt.NDArray[np.float16]]:
    """Activations at the cut of the rows, [n, h, w, C] in their order; see `scratch_array`.

    Raises:
        ResourceError: The bank lacks some, or a record is not what bank.json says.
    """
    shape = read_facts(bank_uri).activations
    folder = f"{bank_uri.rstrip('/')}/{ACTIVATIONS_FOLDER}"
    pairs = zip(rows.hashes.tolist(), rows.views.tolist(), strict=True)
    places = {pair: place for place, pair in enumerate(pairs)}
    with scratch_array((len(rows), *shape), np.float16) as activations:
        found = 0
        for parsed in _parsed(folder, split, names.ACTIVATIONS):
            maps = _decoded(parsed[names.ACTIVATIONS], math.prod(shape), bank_uri)
            for digest, view, one in zip(
                parsed[names.IMAGE_HASH].tolist(), parsed[names.VIEW].tolist(), maps, strict=True
            ):
                place = places.get((digest, view))
                if place is not None:
                    activations[place] = one.reshape(shape)
                    found += 1
        if found != len(rows):
            raise ResourceError(
                f"feature bank {bank_uri}: expected activations of {len(rows)} rows of split "
                f"{split}. Received: {found}. Run FeatureBank again"
            )
        yield activations


def _parsed(uri: str, split: str, vector: str) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Batches of the split's records as columns, with the feature `vector`."""
    files = matching(f"{uri.rstrip('/')}/Split-{split}/data_tfrecord-*")
    return columns(files, vector, names.LABEL_INDEX, names.VIEW, names.IMAGE_HASH)


def _decoded(values: npt.NDArray[Any], dim: int, bank_uri: str) -> npt.NDArray[np.float16]:
    """Float16 [n, dim] from n byte strings."""
    expected = dim * np.dtype(np.float16).itemsize
    wrong = next((len(value) for value in values if len(value) != expected), None)
    if wrong is not None:
        raise ResourceError(
            f"feature bank {bank_uri}: expected {expected} bytes of features a record (dim {dim}, "
            f"float16). Received: {wrong}. Run FeatureBank again"
        )
    return (
        np.frombuffer(b"".join(values), "<f2")
        .astype(np.float16, copy=False)
        .reshape(len(values), dim)
    )
