"""Report: one page from the artifacts of a run.

The local runner calls `write` itself when a run is refused or fails before this component.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import (
    Examples,
    InfraBlessing,
    Model,
    ModelBlessing,
    ModelEvaluation,
    ModelRun,
    PushedModel,
)

from imgpipe.components import records
from imgpipe.components.artifacts import DataBlessing, LiteModels, Quarantine, RunReport
from imgpipe.components.report import augmented_views, page, verdict
from imgpipe.components.report import facts as run_facts
from imgpipe.components.report import suspects as label_suspects
from imgpipe.components.report.sections import data, rejects, suspects

TIMINGS = "timings.json"  # written by the local runner while it goes along
PAGE = "report.html"
FACTS = "facts.json"
_PICTURES = 200  # thumbnails on a page; beyond that a browser crawls


@component
def Report(
    quarantine: InputArtifact[Quarantine],
    data_blessing: InputArtifact[DataBlessing],
    bank: InputArtifact[Examples],
    model_run: InputArtifact[ModelRun],
    baseline: InputArtifact[Model],
    evaluation: InputArtifact[ModelEvaluation],
    model_blessing: InputArtifact[ModelBlessing],
    predictions: InputArtifact[Examples],
    infra_blessing: InputArtifact[InfraBlessing],
    pushed_model: InputArtifact[PushedModel],
    examples: InputArtifact[Examples],
    report: OutputArtifact[RunReport],
    settings: Parameter[str],
    run_directory: Parameter[str],
    cross_validation: InputArtifact[ModelBlessing] = None,
    lite: InputArtifact[LiteModels] = None,
) -> None:
    """Write ``report.html`` and ``facts.json``; and into the run's folder where there is one.

    Args:
      quarantine: of ImageFilter.
      data_blessing: of DataGate.
      bank: of FeatureBank.
      model_run: history and parity samples of the Trainer.
      baseline: of Baseline.
      evaluation: of the Evaluator.
      model_blessing: of the Evaluator.
      predictions: of the Predictor.
      infra_blessing: of the ServingValidator.
      pushed_model: of the Pusher.
      examples: kept images, for the pictures of mistakes.
      report: the page.
      settings: JSON: name, source, vocabulary, threshold, max_drop, cross_validate, lite,
        max_loss, backbone, image_size, views, mixing, expect.
      run_directory: folder of the run, "" where there is none (Kubeflow).
      cross_validation: of the CrossValidator, where the run has one.
      lite: of the LiteExporter, where the run has one.
    """
    uris = {
        "quarantine": quarantine.uri,
        "data_blessing": data_blessing.uri,
        "bank": bank.uri,
        "model_run": model_run.uri,
        "baseline": baseline.uri,
        "evaluation": evaluation.uri,
        "model_blessing": model_blessing.uri,
        "predictions": predictions.uri,
        "infra_blessing": infra_blessing.uri,
        "pushed_model": pushed_model.uri,
        "examples": examples.uri,
    }
    if cross_validation is not None:
        uris["cross_validation"] = cross_validation.uri
    if lite is not None:
        uris["lite"] = lite.uri
    log = f"{run_directory}/run.log" if run_directory else ""
    write(uris, json.loads(settings), [report.uri, run_directory], log=log)


def write(
    uris: Mapping[str, str],
    settings: Mapping[str, Any],
    folders: list[str],
    error: str = "",
    failed: str = "",
    log: str = "",
) -> dict[str, Any]:
    """Collect facts, draw the page, write both into every folder that is not "".

    Args:
      uris: artifact URIs by name; whatever is missing is said to be missing.
      settings: see `Report`.
      folders: where to write; timings are read from the last.
      error: why the run stopped, "" when it did not.
      failed: the component that stopped it.
      log: path of the run's log.

    Returns:
      The facts.
    """
    facts = run_facts.collect(uris, settings)
    state = verdict.state(facts, error=error, failed=failed, log=log)
    timings = None
    if folders[-1] and (Path(folders[-1]) / TIMINGS).is_file():
        timings = json.loads((Path(folders[-1]) / TIMINGS).read_text())
    html = page.render(facts, timings, _images(facts, uris), state)
    for folder in filter(None, folders):
        records.write_json(f"{folder}/{FACTS}", facts)
        records.write_text(f"{folder}/{PAGE}", html)
        if facts["suspects"]:
            review = label_suspects.review_file(facts["suspects"])
            records.write_text(f"{folder}/{suspects.REVIEW_FILE}", review)
    return facts


def _images(facts: Mapping[str, Any], uris: Mapping[str, str]) -> dict[str, bytes]:
    """Encoded pictures the page may show: rejects from quarantine, all others from the examples."""
    found: dict[str, bytes] = {}
    for reject in rejects.shown(facts["rejects"]):
        path = f"{uris['quarantine']}/{reject.get('stored', '')}"
        if reject.get("stored") and tf.io.gfile.exists(path):
            with tf.io.gfile.GFile(path, "rb") as file:
                found[reject["image_hash"]] = file.read()
    wanted = {row["image_hash"] for rows in facts["mistakes"].values() for row in rows}
    wanted |= data.shown_hashes(facts["data"] or {})
    doubtful = (facts["suspects"] or {}).get("rows", [])[: suspects.SHOWN]
    groups = (facts["near"] or {}).get("rows", [])
    wanted |= {row["image_hash"] for row in doubtful}
    wanted |= {member["image_hash"] for group in groups for member in group["members"]}
    if wanted and uris.get("examples"):
        found |= run_facts.pictures(uris["examples"], wanted, _PICTURES)
    if seen := {row["image_hash"] for row in facts["views"]}:
        found |= augmented_views.pictures(
            facts, run_facts.pictures(uris["examples"], seen, len(seen))
        )
    return found
