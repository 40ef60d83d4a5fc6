"""Whole runs of the pipeline on the drawn data set, in the order in which a user makes them."""

import dataclasses
import html
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import imgpipe
from imgpipe.components.common.storage import manifest, records
from imgpipe.components.common.storage.manifest import ANSWERS_FOLDER
from imgpipe.components.serving_validator import parity_samples
from imgpipe.models import names
from imgpipe.models.errors import ImgpipeError
from imgpipe.pipeline.definition.plan import NEVER_CACHED
from imgpipe.pipeline.demo import draw_hand
from imgpipe.pipeline.execution import pipeline_run
from imgpipe.serving.client import Client
from imgpipe.serving.server.runtime import Runtime
from tests import json_formats, python_program
from tests.e2e.case import SETTINGS, UNTRAINED, Case, newest_artifact, ruling
from tests.serving.quick import running

_UNREACHABLE = "evaluate.threshold=1.0"


def test_the_first_run_is_blessed_and_pushed(case: Case, first: Any):
    summary = first.result
    assert first.exit_code == 0, first.verdict
    assert first.verdict.startswith("blessed: validation accuracy")
    texts = [ruling["text"] for ruling in summary["gate"]["rulings"]]
    assert "there is no earlier blessed model to compare with" in texts
    assert first.blessed
    assert (summary["push"]["status"], summary["push"]["path"]) == ("pushed", "model/1")
    assert set(NEVER_CACHED) < set(summary["timings"]["components"])
    assert summary["cached"] == []
    json_formats.conform("run", summary)
    assert json.loads((first.folder / "result.json").read_text()) == summary


def test_every_file_is_counted(drawn: Path, first: Any):
    data = first.result["data"]
    assert data["in"] == data["kept"] + data["rejected"]
    files = [path for path in drawn.rglob("*") if path.is_file()]
    assert data["in"] == len(files)
    assert sum(sum(classes.values()) for classes in data["by_split"].values()) == data["kept"]


def test_quarantine_keeps_the_bytes_of_rejected_files(case: Case, drawn: Path, first: Any):
    quarantine = newest_artifact(case.out, "ImageFilter", "quarantine")
    lines = (quarantine / "findings.jsonl").read_text().splitlines()
    findings = [json.loads(line) for line in lines]
    rejects = [finding for finding in findings if finding["severity"] == "reject"]
    assert len(rejects) == first.result["data"]["rejected"]
    for reject in rejects:
        kept = (quarantine / reject["stored"]).read_bytes()
        assert kept == (drawn / reject["path"]).read_bytes()
        assert reject["reason"]
        assert reject["override"]


def test_trained_model_export_and_server_give_the_same_answer(case: Case, first: Any):
    """By image bytes, by tf.Examples, and over gRPC."""
    samples = parity_samples(str(newest_artifact(case.out, "ImageTrainer", "model_run")))
    images = samples.images
    runtime = Runtime(case.out / "model" / "1")
    by_bytes = runtime.answer(image_bytes=images)["probabilities"]
    examples = [records.make({names.IMAGE_BYTES: image}).SerializeToString() for image in images]
    by_example = runtime.answer("serving_examples", examples=examples)["probabilities"]
    with (
        running(case.out / "model", "hands") as server,
        Client(server.target, model="hands") as client,
    ):
        answer = client.predict({names.IMAGE_BYTES: images})
    for served in (by_bytes, by_example, answer.outputs["probabilities"]):
        np.testing.assert_allclose(served, samples.trained, atol=1e-5)
    assert answer.version == 1


def test_the_pushed_version_is_complete_and_has_its_provenance(case: Case, first: Any):
    version = manifest.latest(case.out / "model")
    described = manifest.describe(version.folder)
    guarded = {name: file for name, file in described.items() if manifest.is_guarded(name)}
    assert version.manifest["files"] == guarded
    assert "saved_model.pb" in guarded
    assert version.vocabulary == ["paper", "rock", "scissors"]
    assert version.run_key
    for kept in ("statistics", "schema", ANSWERS_FOLDER):
        assert (version.folder / "provenance" / kept).is_dir(), kept
    assert (version.folder / "assets.extra").is_dir()
    known = manifest.read_known_images(version.folder / "provenance" / manifest.KNOWN_IMAGES)
    assert len(known) == first.result["data"]["kept"], "each image with a hash of its own"
    page = first.report.read_text(encoding="utf-8")
    assert first.verdict in page
    served = "http://localhost:8501/"  # the report names this address but loads nothing from it
    assert "http://" not in page.replace("http://www.w3.org", "").replace(served, "")
    assert "<script" not in page


def test_the_python_function_gives_the_outcome_of_the_command(case: Case, first: Any):
    run = imgpipe.run(case.photos, case.out, **SETTINGS)
    assert run.repeated and run.folder == first.folder
    assert run.status == "blessed" and run.blessed and run.exit_code == 0
    decided_by = first.result["gate"]["decided_by"]
    assert (run.verdict, run.accuracy) == (first.verdict, decided_by["accuracy"])
    assert run.interval == tuple(decided_by["ci95"])
    assert run.metrics["validation"]["accuracy"] == run.accuracy
    assert run.model == case.out / "model" / "1"
    assert run.raise_for_status() is run
    assert html.escape(run.report.read_text("utf-8")) in run._repr_html_()
    push = {**run.result["push"], "status": "refused"}
    result = {**run.result, "verdict": "not blessed", "push": push}
    refused = dataclasses.replace(run, result=result, exit_code=3)
    assert refused.model is None
    with pytest.raises(ImgpipeError, match=r"not blessed. Log: .*run\.log") as caught:
        refused.raise_for_status()
    assert caught.value.exit_code == 3


def test_again_without_changes_everything_is_cached(case: Case, first: Any):
    for file in case.out.glob(f"runs/*/{pipeline_run.REPEAT}"):
        file.unlink()  # so that the run is not repeated from its record
    for path in case.photos.rglob("*.jpg"):
        os.utime(path, (1, 1))  # which is no change
    outcome = case.run()
    assert outcome.exit_code == 0
    assert not outcome.repeated
    executed = set(first.result["timings"]["components"]) - set(outcome.result["cached"])
    assert executed == set(NEVER_CACHED)
    assert outcome.result["push"]["status"] == "unchanged"
    assert manifest.version_numbers(case.out / "model") == [1]
    assert outcome.result["bank"]["forward_passes"] == 0


def test_a_repetition_starts_neither_tensorflow_nor_tfx(case: Case, first: Any):
    before = sorted(case.out.glob("runs/*"))
    words = ("run", "--config", before[-1] / "config.toml", "--json", "-")
    imported, printed = python_program.imported("imgpipe", *words)
    assert "imgpipe.pipeline.execution.pipeline_run" in imported
    assert not imported & {"tensorflow", "tfx", "apache_beam", "keras"}
    summary = json.loads(printed)
    assert set(summary["cached"]) == set(first.result["timings"]["components"])
    assert summary["verdict"] == first.verdict
    assert sorted(case.out.glob("runs/*")) == before


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["model/1", "ImageFilter", "schema/schema.pbtxt"])
def test_deleted_files_are_made_again(case: Case, first: Any, tmp_path: Path, lost: str):
    copy = case.copy(tmp_path)
    shutil.copytree(case.out, copy.out)
    run = copy.run()  # runs anew, because the paths differ in the new folder
    assert copy.run().repeated
    path = run.folder / "artifacts" / lost if lost == "ImageFilter" else copy.out / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    outcome = copy.run()
    assert not outcome.repeated
    assert outcome.exit_code == 0
    assert outcome.result["push"]["status"] in ("pushed", "unchanged")
    assert copy.run().repeated


@pytest.fixture(scope="module")
def grown(case: Case, first: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Any]:
    """Run a copy with one more image and an unreachable threshold; return case and outcome."""
    copy = case.copy(tmp_path_factory.mktemp("grown"))
    shutil.copytree(case.out, copy.out)
    draw_hand("rock", 4242, 112).save(copy.photos / "rock" / "new.png")
    # The features of another head would be others: this one reads what the first one stored.
    return copy, copy.run(_UNREACHABLE, *UNTRAINED, "model.features=covariance")


def test_a_new_image_costs_forward_passes_for_its_own_views_only(
    first: Any, grown: tuple[Case, Any]
):
    copy, outcome = grown
    before, after = first.result["data"], outcome.result["data"]
    assert after["in"] == before["in"] + 1
    more = {
        split: sum(after["by_split"][split].values()) - sum(before["by_split"][split].values())
        for split in names.SPLITS
    }
    assert sum(more.values()) == 1
    assert outcome.result["bank"]["forward_passes"] == (3 if more["train"] else 1)
    assert outcome.result["bank"]["reused"] == first.result["bank"]["forward_passes"]
    # Data is validated against the accepted schema, which is not inferred from this data.
    accepted = (copy.out / "schema" / "schema.pbtxt").read_text()
    used = newest_artifact(copy.out, "SchemaGen", "schema") / "schema.pbtxt"
    assert used.read_text() == accepted


def _probabilities(uri: Path, kind: str) -> dict[str, list[float]]:
    """Return the probabilities of a kind in predictions, by the hash of the image."""
    examples = records.iterate(str(uri), names.TEST)
    return {
        records.text(example, names.IMAGE_HASH): records.floats(example, kind)
        for example in examples
    }


def test_the_answers_of_the_last_version_are_those_of_the_run_that_published_it(
    first: Any, grown: tuple[Case, Any]
):
    copy, _ = grown
    published = manifest.latest(copy.out / "model").folder / "provenance" / ANSWERS_FOLDER
    before = _probabilities(published, names.PROBABILITIES)
    predictions = newest_artifact(copy.out, "ImageEvaluator", "predictions")
    now = _probabilities(predictions, names.BASELINE_PROBABILITIES)
    assert before and before.keys() <= now.keys()
    for image_hash, row in before.items():
        assert now[image_hash] == pytest.approx(row, rel=1e-6), image_hash


def test_another_threshold_after_a_publication_trains_nothing_again(
    case: Case, first: Any, tmp_path: Path
):
    copy = case.copy(tmp_path)
    shutil.copytree(case.out, copy.out)
    copy.run()  # runs anew, because the paths differ in the new folder
    outcome = copy.run("evaluate.threshold=0.4", "evaluate.tfma=true")
    executed = set(outcome.result["timings"]["components"]) - set(outcome.result["cached"])
    assert executed == {"ImageEvaluator", *NEVER_CACHED}
    assert outcome.result["baseline"]["version"] == 1, "the version of the first run"
    assert outcome.result["push"]["status"] == "unchanged"
    assert len(list(copy.out.glob("answers/*/Split-test"))) == 1
    evaluations = copy.out.glob("runs/*/artifacts/ImageEvaluator/evaluation/*/*")
    assert {file.name.split("-")[0] for file in evaluations} >= {"eval_config.json", "metrics"}


def test_a_model_below_threshold_is_not_blessed_and_not_pushed(grown: tuple[Case, Any]):
    copy, outcome = grown
    assert outcome.exit_code == 3
    assert outcome.verdict.startswith("not blessed: validation accuracy")
    assert "is below the threshold 1" in outcome.verdict
    assert outcome.result["gate"]["baseline"] is not None, "compared with the published version 1"
    assert outcome.result["gate"]["failed"][0] == "threshold"
    assert outcome.result["push"]["status"] == "refused"
    assert manifest.version_numbers(copy.out / "model") == [1]
    assert outcome.report.is_file()


@pytest.mark.slow
def test_a_model_with_other_splits_is_compared_on_what_the_baseline_was_not_trained_on(
    case: Case, first: Any
):
    outcome = case.run("split.seed=5", "evaluate.threshold=0.0")
    assert outcome.result["gate"]["baseline"] is not None
    text = ruling(outcome, "last_version")
    compared = int(text.partition(" validation images")[0].rpartition(" of ")[2].replace(",", ""))
    assert 0 < compared < sum(first.result["data"]["by_split"]["validation"].values())


def test_a_closed_gate_stops_the_run_before_anything_is_trained(case: Case, first: Any):
    outcome = case.run("gate.min_validation=500")
    assert outcome.exit_code == 4
    json_formats.conform("run", outcome.result)
    assert outcome.verdict.startswith(
        "the data was refused for 1 reason:\n- too few in validation:"
    )
    assert "500" in outcome.verdict
    assert "ImageTrainer" not in outcome.result["timings"]["components"]
    page = outcome.report.read_text(encoding="utf-8")
    assert "refused" in page
    assert outcome.result["data"]["in"] == first.result["data"]["in"]


@pytest.mark.slow
def test_from_executes_the_component_and_those_after_it_again(case: Case, first: Any):
    case.run()  # the tests before changed the schema
    outcome = case.run(start="ImageTrainer")
    assert {"FeatureBank", "DataGate"} <= set(outcome.result["cached"])
    assert "ImageTrainer" not in outcome.result["cached"]
    assert outcome.accuracy == first.accuracy, "same seed"
    assert outcome.result["push"]["status"] == "unchanged", "the same model, exported again"
    assert outcome.result["bank"]["forward_passes"] == 0


def test_missing_weights_end_a_run_before_the_images_are_checked(
    case, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    """Keras' cache is empty, and the proxy of the network refuses connections."""
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    apart = Case(case.photos, tmp_path / "out")
    outcome = apart.run("model.backbone=mobilenet_v2", "model.image_size=96")
    assert outcome.exit_code == 5
    assert "its ImageNet weights are not on this machine" in outcome.verdict
    assert re.search(r"_no_top\.h5\. Put that file into .*/models, or name it", outcome.verdict)
    assert not list(apart.out.glob("runs/*/artifacts/*"))
