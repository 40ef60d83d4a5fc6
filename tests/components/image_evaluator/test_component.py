"""The metrics that TFMA is asked to compute, for few classes and for many."""

from __future__ import annotations

import json

import pytest

from imgpipe.components.image_evaluator.component import eval_config

# TFX and TFMA warn about their own dependencies; none of these warnings can be fixed here.
pytestmark = pytest.mark.filterwarnings("ignore")


def test_few_classes_have_metrics_for_each_class_and_plots():
    config = eval_config(100, baseline=False)
    assert {"featureKeys": ["split", "label"]} in config["slicingSpecs"]
    assert "MultiClassConfusionMatrixPlot" in json.dumps(config)
    assert "CalibrationPlot" in json.dumps(config)


def test_many_classes_have_only_metrics_that_do_not_grow_with_their_square():
    """A confusion matrix for each of 5,000 classes took 1,168 seconds of a run."""
    config = eval_config(101, baseline=False)
    assert config["slicingSpecs"] == [{}, {"featureKeys": ["split"]}]
    (specs,) = config["metricsSpecs"]
    assert [metric["className"] for metric in specs["metrics"]] == [
        "ExampleCount",
        "SparseCategoricalAccuracy",
        "SparseCategoricalCrossentropy",
    ]
