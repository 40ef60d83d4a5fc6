"""The facts of a run, read from its artifacts.

Any artifact may be missing. A part from a new artifact needs a field of `Facts` and a row in
`REPORTED`, which graph and component share.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from imgpipe.components.baseline_settings import BASELINE_FILE
from imgpipe.components.common import blessings, prediction
from imgpipe.components.common.storage import records
from imgpipe.components.data_gate.gate_settings import GATE_FILE
from imgpipe.components.image_evaluator.decision import DECISION_FILE
from imgpipe.components.image_filter import quarantine
from imgpipe.components.model_pusher.pusher_settings import PUSH_FILE
from imgpipe.components.run_record import metrics
from imgpipe.components.run_record.doubtful_labels import doubtful_labels
from imgpipe.components.run_record.facts import Facts, ShownSettings, empty
from imgpipe.components.run_record.near_duplicates import condensed
from imgpipe.components.run_record.slices import Slices
from imgpipe.models import feature_names as names
from imgpipe.models.features.bank import BANK_FILE
from imgpipe.models.model_names import HISTORY_FILE


@dataclass(frozen=True)
class Reported:
    """An artifact that the report reads.

    Attributes:
        component: Id of the component that writes the artifact.
        output: Key of the component's output.
        type: Name of the artifact type, one of TFX's standard artifacts or of
            `components/common/artifacts.py`.
        file: JSON file in the artifact that is part of the facts as it is; "" if there is none.
        fact: Name of the file's content in the facts; "" for the name of the artifact.
    """

    component: str
    output: str
    type: str
    file: str = ""
    fact: str = ""


#: Artifacts by the name that `collect` uses for them.
REPORTED = {
    "quarantine": Reported("ImageFilter", "quarantine", "Quarantine", quarantine.SUMMARY, "data"),
    "data_blessing": Reported("DataGate", "blessing", "DataBlessing", GATE_FILE, "data_gate"),
    "bank": Reported("FeatureBank", "features", "Examples", BANK_FILE),
    "model_run": Reported("ImageTrainer", "model_run", "ModelRun", HISTORY_FILE, "training"),
    "model": Reported("ImageTrainer", "model", "Model"),
    "baseline": Reported("Baseline", "model", "Model", BASELINE_FILE),
    "model_blessing": Reported(
        "ImageEvaluator", "blessing", "ModelBlessing", DECISION_FILE, "gate"
    ),
    "predictions": Reported("Predictor", "predictions", "Examples"),
    "infra_blessing": Reported(
        "ServingValidator", "blessing", "InfraBlessing", blessings.VALIDATION, "serving"
    ),
    "pushed_model": Reported("ModelPusher", "pushed_model", "PushedModel", PUSH_FILE, "push"),
    "examples": Reported("ImageFilter", "examples", "Examples"),
}


def collect(uris: Mapping[str, str], settings: ShownSettings) -> Facts:
    """Collect the facts of a run; they can be written as JSON.

    Args:
        uris: Artifact URIs by the names of `REPORTED`.
        settings: What `pipeline.plan.report_settings` returns.
    """
    facts = empty(settings)
    for name, row in REPORTED.items():
        if row.file:
            facts[row.fact or name] = _json(uris, name, row.file)  # type: ignore[literal-required]
    kinds = Slices()
    tables = _predictions(uris.get("predictions", ""), settings["vocabulary"], kinds)
    groups = _lines(uris, "quarantine", quarantine.NEAR)  # None when the search was off
    facts["rejects"] = _lines(uris, "quarantine", quarantine.MANIFEST) or []
    facts["quarantine"] = uris.get("quarantine", "")
    facts["near"] = None if groups is None else condensed(groups)
    facts["metrics"] = {split: table.summary() for split, table in tables.items()}
    facts["confusion"] = {split: table.confusion() for split, table in tables.items()}
    facts["mistakes"] = {split: table.mistakes() for split, table in tables.items()}
    facts["slices"] = kinds.summary()
    if facts["bank"] is not None and facts["bank"]["dim"]:
        # A label that a person has accepted or corrected is not doubted again.
        reviewed = _lines(uris, "quarantine", quarantine.REVIEWED) or []
        settled = {row["image_hash"] for row in reviewed if row["reason"] in ("accept", "relabel")}
        facts["suspects"] = doubtful_labels(uris["bank"], settings["vocabulary"], settled)
    training = facts["training"]
    if training is not None:
        facts["cross_validation"] = training["cross_validation"]
        # A search may choose another size.
        facts["settings"] = {**settings, "image_size": training["image_size"]}
    return facts


def _text(uris: Mapping[str, str], artifact: str, file: str) -> str | None:
    """Read a file of an artifact; None when the artifact or the file is missing."""
    path = f"{uris.get(artifact)}/{file}"
    if not uris.get(artifact) or not tf.io.gfile.exists(path):
        return None
    with tf.io.gfile.GFile(path, "r") as opened:
        return str(opened.read())


def _json(uris: Mapping[str, str], artifact: str, file: str) -> Any:
    text = _text(uris, artifact, file)
    return None if text is None else json.loads(text)


def _lines(uris: Mapping[str, str], artifact: str, file: str) -> list[Any] | None:
    text = _text(uris, artifact, file)
    return None if text is None else [json.loads(line) for line in text.splitlines()]


def _predictions(uri: str, vocabulary: Sequence[str], kinds: Slices) -> dict[str, metrics.Table]:
    """Read the predictions once, and count the images of the measured splits."""
    if not uri or not tf.io.gfile.exists(uri):
        return {}
    tables = {
        split: metrics.Table(vocabulary, kinds.counted(_labelled(uri, split)))
        for split in metrics.MEASURED
    }
    return {split: table for split, table in tables.items() if len(table)}


def _labelled(uri: str, split: str) -> Iterator[prediction.StoredPrediction]:
    """Return the predictions of the labelled images of a split."""
    found = map(prediction.read, records.iterate(uri, split))
    return (one for one in found if one.label_index >= 0)


def encoded_images(examples_uri: str, wanted: Set[str], limit: int) -> dict[str, bytes]:
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
