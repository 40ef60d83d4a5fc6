"""The metrics that TFMA is asked to compute, for few classes and for many."""

from __future__ import annotations

import json

import pytest

from imgpipe.components.image_evaluator.component import eval_config

# TFX and TFMA warn about their own dependencies; none of these warnings can be fixed here.
pytestmark = pytest.mark.filterwarnings("ignore")


def test_few_classes_have_metrics_for_each_class_and_plots():
    config = eval_config(0.9, 0.01, classes=100)
    assert {"featureKeys": ["split", "label"]} in config["slicingSpecs"]
    assert "MultiClassConfusionMatrixPlot" in json.dumps(config)
    assert "CalibrationPlot" in json.dumps(config)


def test_many_classes_have_the_metrics_of_the_gate_alone():
    """A confusion matrix for each of 5,000 classes took 1,168 seconds of a run."""
    config = eval_config(0.9, 0.01, classes=101)
    assert config["slicingSpecs"] == [{}, {"featureKeys": ["split"]}]
    (specs,) = config["metricsSpecs"]
    assert [metric["className"] for metric in specs["metrics"]] == [
        "ExampleCount",
        "SparseCategoricalAccuracy",
        "SparseCategoricalCrossentropy",
    ]


@pytest.mark.parametrize("classes", [2, 5_000])
def test_the_gate_is_the_same_for_any_number_of_classes(classes):
    config = eval_config(0.9, 0.01, classes)
    (accuracy,) = [
        metric
        for metric in config["metricsSpecs"][0]["metrics"]
        if metric["className"] == "SparseCategoricalAccuracy"
    ]
    (gate,) = accuracy["perSliceThresholds"]
    assert gate["slicingSpecs"] == [{"featureValues": {"split": "validation"}}]
    assert gate["threshold"]["valueThreshold"]["lowerBound"] == pytest.approx(0.9, abs=1e-5)
    assert gate["threshold"]["changeThreshold"]["absolute"] == pytest.approx(-0.01, abs=1e-5)
