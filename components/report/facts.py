"""The facts of a run, read from its artifacts into one plain dictionary.

The summary (``--json``), the verdict and the page are made from the facts. Any artifact may be
missing, because runs that were refused or failed have facts too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

from imgpipe.components.image_filter import quarantine
from imgpipe.components.predictor import prediction
from imgpipe.components.report import (
    augmented_views,
    doubtful_labels,
    embedding,
    metrics,
    neighbours,
)
from imgpipe.components.report.inputs import REPORTED
from imgpipe.components.report.section import MEASURED
from imgpipe.components.report.sections.images import condensed
from imgpipe.components.report.sections.training import only_unchanged
from imgpipe.components.report.slices import DESCRIBED, Slices
from imgpipe.components.storage import records
from imgpipe.models import feature_names as names


def collect(uris: Mapping[str, str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Collect the facts of a run.

    Args:
        uris: Artifact URIs by the names of `inputs.REPORTED`.
        settings: name, source, vocabulary, proposals, threshold, max_drop, backbone, image_size,
            views and expect.

    Returns:
        A dictionary that can be written as JSON, with keys such as settings, data, near, bank,
        views, suspects, training, metrics, gate, serving and push.
    """
    kinds = Slices()
    predictions = _predictions(uris.get("predictions", ""), settings, kinds)
    found = {
        row.fact or name: _json(uris, name, row.file) for name, row in REPORTED.items() if row.file
    }
    bank, training = found["bank"] or {}, found["training"] or {}
    features = uris["bank"] if found["bank"] is not None else ""
    groups = _lines(uris, "quarantine", quarantine.NEAR)  # None when the search was off
    folds = found["cross_validation"] or {}
    decide = folds.get("decides", True)
    settings = _with_views_made(settings, bank)
    if (size := training.get("image_size")) is not None:  # a search may choose another one
        settings = {**settings, "image_size": size}
    return {
        **found,
        "settings": dict(settings),
        "rejects": _lines(uris, "quarantine", quarantine.MANIFEST) or [],
        "quarantine": uris.get("quarantine", ""),
        "near": None if groups is None else condensed(groups),
        "views": _views(uris, settings, bank),
        **_by_features(features, uris, settings, predictions),
        "cross_validation": (folds or None) if decide else None,
        "folds_note": "" if decide else folds["why"],
        "metrics": {split: table.summary() for split, table in predictions.items()},
        "confusion": {split: table.confusion() for split, table in predictions.items()},
        "reliability": {split: table.reliability() for split, table in predictions.items()},
        "slices": kinds.summary(),
        "mistakes": _mistakes(features, settings, predictions),
    }


def _with_views_made(settings: Mapping[str, Any], bank: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings with the bank's number of views, which may be below the allowed one."""
    if not settings.get("views") or bank.get("views") is None:
        return settings
    return {**settings, "views": {**settings["views"], "count": bank["views"]}}


def _text(uris: Mapping[str, str], artifact: str, file: str) -> str | None:
    """Read a file of an artifact; None when the artifact or the file is missing."""
    path = f"{uris.get(artifact)}/{file}"
    if not uris.get(artifact) or not tf.io.gfile.exists(path):
        return None
    with tf.io.gfile.GFile(path, "r") as opened:
        return str(opened.read())


def _json(uris: Mapping[str, str], artifact: str, file: str) -> Any:
    """Read a JSON file of an artifact; None when it is missing."""
    text = _text(uris, artifact, file)
    return None if text is None else json.loads(text)


def _lines(uris: Mapping[str, str], artifact: str, file: str) -> list[dict[str, Any]] | None:
    """Read a JSON Lines file of an artifact; None when it is missing."""
    text = _text(uris, artifact, file)
    return None if text is None else list(records.json_lines(text.splitlines()))


def _views(
    uris: Mapping[str, str], settings: Mapping[str, Any], bank: Mapping[str, Any]
) -> list[dict[str, str]]:
    """Choose the training images whose views the page shows; none when no views were made."""
    examples = uris.get("examples", "")
    made = bank and examples and settings.get("views") and not only_unchanged(bank)
    return augmented_views.choose(examples) if made else []


def _by_features(
    bank_uri: str,
    uris: Mapping[str, str],
    settings: Mapping[str, Any],
    predictions: Mapping[str, metrics.Table],
) -> dict[str, Any]:
    """Doubtful labels, and the map of the images with the mistakes; None where no bank is."""
    if not bank_uri:
        return {"suspects": None, "embedding": None}
    # A label that a person has accepted or corrected is not doubted again.
    reviewed = _lines(uris, "quarantine", quarantine.REVIEWED) or []
    confirmed = {row["image_hash"] for row in reviewed if row["reason"] in ("accept", "relabel")}
    wrong = {split: predictions[split].are_wrong for split in MEASURED if split in predictions}
    vocabulary = settings["vocabulary"]
    return {
        "suspects": doubtful_labels.rank(bank_uri, vocabulary, confirmed=confirmed),
        "embedding": embedding.build(bank_uri, vocabulary, wrong),
    }


def _mistakes(
    bank_uri: str, settings: Mapping[str, Any], predictions: Mapping[str, metrics.Table]
) -> dict[str, list[dict[str, Any]]]:
    """List the mistakes of each split, the first ones with the training images nearest to them."""
    found = {split: table.mistakes() for split, table in predictions.items()}
    if not bank_uri:
        return found
    wanted = {
        split: [row["image_hash"] for row in found.get(split, [])[: neighbours.ASKED]]
        for split in MEASURED
    }
    near = neighbours.nearest(bank_uri, settings["vocabulary"], wanted)
    return {
        split: [{**row, "nearest": near.get(row["image_hash"], [])} for row in rows]
        for split, rows in found.items()
    }


def _predictions(uri: str, settings: Mapping[str, Any], kinds: Slices) -> dict[str, metrics.Table]:
    """Read the predictions once, and count the images of the measured splits."""
    if not uri or not tf.io.gfile.exists(uri):
        return {}
    tables = {
        split: metrics.Table(settings["vocabulary"], kinds.counted(_labelled(uri, split)))
        for split in MEASURED
    }
    return {split: table for split, table in tables.items() if len(table)}


def _labelled(uri: str, split: str) -> Iterator[metrics.Row]:
    """Return the predictions of the labelled images of a split."""
    for example in records.iterate(uri, split):
        label = records.integer(example, names.LABEL_INDEX, -1)
        if label >= 0:
            yield metrics.Row(
                path=records.text(example, names.PATH),
                image_hash=records.text(example, names.IMAGE_HASH),
                label_index=label,
                prediction=prediction.read(example),
                described={name: records.first(example, name) for name in DESCRIBED},
            )


def encoded_images(examples_uri: str, wanted: set[str], limit: int) -> dict[str, bytes]:
    """Read at most `limit` encoded images with wanted hashes, by hash."""
    found: dict[str, bytes] = {}
    for split in names.SPLITS:
        for example in records.iterate(examples_uri, split):
            if len(found) >= limit or len(found) == len(wanted):
                return found
            image_hash = records.text(example, names.IMAGE_HASH)
            if image_hash in wanted:
                found[image_hash] = records.raw(example, names.IMAGE_BYTES)
    return found
