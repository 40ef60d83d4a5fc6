"""Whole runs with LiteRT exports and with cross-validation in place of the validation split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgpipe.components.storage import manifest
from tests.e2e.case import Case

pytestmark = pytest.mark.slow

#: Settings of both gates. One of some twenty validation images is four percentage points.
GATES = ("evaluate.cross_validate=3", "export.lite=['float16', 'int8']", "export.max_loss=0.2")


@pytest.fixture(scope="module")
def gated(case: Case, tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Any]:
    """Run the shared images with both gates in a new output folder; return case and outcome."""
    own = Case(case.photos, tmp_path_factory.mktemp("gates") / "out")
    return own, own.run(*GATES)


def test_both_gates_bless_and_the_model_is_pushed_with_its_lite_files(gated: tuple[Case, Any]):
    case, outcome = gated
    assert outcome.exit_code == 0, outcome.verdict
    assert {"CrossValidator", "LiteExporter"} <= set(outcome.summary["timings"]["components"])
    assert outcome.summary["push"]["status"] == "pushed"
    version = manifest.latest(case.out / "model")
    assert version.manifest["files"] == manifest.describe(version.path)
    for file in ("model.tflite", "model_float16.tflite", "assets.extra/lite.json"):
        assert (version.path / file).is_file(), file


def test_the_summary_has_the_figures_of_each_gate(gated: tuple[Case, Any]):
    _, outcome = gated
    folds = outcome.summary["cross_validation"]
    assert folds["folds"] == len(folds["per_fold"]) == 3
    data = outcome.summary["data"]["splits"]
    assert folds["images"] == sum(sum(data[split].values()) for split in ("train", "validation"))
    assert folds["mean"] == pytest.approx(np.mean([f["accuracy"] for f in folds["per_fold"]]))
    assert folds["blessed"] is True
    assert f"mean accuracy {folds['mean']:.3f}" in outcome.verdict
    assert set(outcome.summary["lite"]) == {"float16", "int8"}
    for export in outcome.summary["lite"].values():
        assert export["blessed"], export["why"]
        assert export["images"] == sum(data["validation"].values())
        validation = outcome.summary["metrics"]["validation"]["accuracy"]
        assert export["model_accuracy"] == pytest.approx(validation, abs=1e-6)
    assert outcome.summary["warnings"] == []
    page = Path(outcome.summary["report"]).read_text(encoding="utf-8")
    assert "Cross-validation" in page
    assert "2 of 2 blessed" in page


def test_a_run_without_cross_validation_recommends_it(first: Any):
    assert first.summary["cross_validation"] is None
    assert first.summary["lite"] is None
    (hint,) = first.summary["warnings"]
    assert "evaluate.cross_validate = 5" in hint


def test_the_lite_files_answer_as_the_served_model_does(gated: tuple[Case, Any]):
    from imgpipe.components.predictor.component import Served
    from imgpipe.components.serving_validator.component import parity_samples
    from imgpipe.models import preprocess
    from imgpipe.models.export import litert

    case, _ = gated
    runs = case.out / "artifacts" / "ImageTrainer" / "model_run"
    newest = max(runs.glob("[0-9]*/"), key=lambda path: int(path.name))
    images, _ = parity_samples(str(newest))
    directory = case.out / "model" / "1"
    served = Served(str(directory)).run(image_bytes=images)["probabilities"]
    pixels = np.stack([preprocess.whole_pixels(image, 112).numpy() for image in images])
    for kind, tolerance in ((litert.FLOAT16, 0.02), (litert.INT8, 0.15)):
        with litert.LiteModel((directory / litert.FILES[kind]).read_bytes()) as model:
            np.testing.assert_allclose(model.probabilities(pixels), served, atol=tolerance)


def test_again_without_changes_everything_is_cached(gated: tuple[Case, Any]):
    case, _ = gated
    outcome = case.run(*GATES)
    assert {"CrossValidator", "LiteExporter"} <= set(outcome.summary["cached"])
    assert outcome.summary["push"]["status"] == "unchanged"


def test_a_cross_validation_below_the_threshold_refuses_the_model(gated: tuple[Case, Any]):
    case, _ = gated
    outcome = case.run("evaluate.cross_validate=2", "evaluate.threshold=1.0", "train.epochs=1")
    assert outcome.exit_code == 3
    assert "over 2 folds" in outcome.verdict and "is below the threshold 1" in outcome.verdict
    assert "cross_validation" in outcome.summary["gate"]["failed"]
    assert "threshold" not in outcome.summary["gate"]["failed"], "validation does not decide"
    assert outcome.summary["push"]["status"] == "refused"
    assert outcome.summary["cross_validation"]["blessed"] is False


def test_lite_files_are_not_pushed_when_the_run_does_not_ask_for_them(gated: tuple[Case, Any]):
    case, _ = gated
    outcome = case.run(GATES[0])
    assert "LiteExporter" not in outcome.summary["timings"]["components"]
    assert outcome.summary["push"]["version"] == "2", "the same model, without its files"
    assert not list((case.out / "model" / "2").glob("*.tflite"))


def test_a_failed_lite_conversion_does_not_keep_the_model_from_being_pushed(
    gated: tuple[Case, Any], monkeypatch: pytest.MonkeyPatch
):
    from imgpipe.models.export import litert

    case, _ = gated
    convert = litert.convert

    def no_int8(network: Any, kind: str, *arguments: Any) -> bytes:
        if kind == litert.INT8:
            raise RuntimeError("op FOO is not known\nto the converter")
        return convert(network, kind, *arguments)

    monkeypatch.setattr(litert, "convert", no_int8)
    outcome = case.run(*GATES, start="LiteExporter")
    assert outcome.exit_code == 0, outcome.verdict
    assert outcome.summary["lite"]["int8"]["why"] == (
        "it could not be converted: op FOO is not known"
    )
    assert outcome.summary["lite"]["float16"]["blessed"] is True
    pushed = Path(outcome.summary["push"]["path"])
    assert (pushed / "model_float16.tflite").is_file()
    assert not (pushed / "model.tflite").exists()
    assert "op FOO is not known" in Path(outcome.summary["report"]).read_text(encoding="utf-8")
