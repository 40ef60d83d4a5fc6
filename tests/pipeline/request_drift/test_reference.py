"""Tests that statistics and schema are found in a version, and its predictions in its run."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from imgpipe.components.model_pusher import versions
from imgpipe.models.errors import ResourceError
from imgpipe.pipeline.commands import rollback
from imgpipe.pipeline.output import lookup
from imgpipe.pipeline.request_drift import reference
from tests.pipeline.request_drift import drawn
from tests.pipeline.request_drift.drawn import probabilities

# TFX, TFDV and ML Metadata warn about their own dependencies, which this project cannot change.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def out(pushed, tmp_path):
    """Return a copy of the output folder, which a test may change."""
    shutil.copytree(pushed, tmp_path / "out")
    return tmp_path / "out"


def test_versions_are_found_from_a_run_a_base_or_a_version(pushed):
    for place in (pushed, pushed / "model", pushed / "model" / "1"):
        assert list(lookup.model(place, published=True).intact_versions) == [1]


def test_statistics_schema_and_predictions_of_a_version_are_loaded(pushed):
    found = reference.load(lookup.model(pushed, published=True).intact_versions[1])
    assert set(found.statistics) == {"train", "validation"} and found.schema.feature
    expected = probabilities(200, seed=7)
    np.testing.assert_allclose(found.predictions.confidence, expected.max(axis=1))
    assert found.predictions.labels[0] == ("cat", "dog", "owl")[expected[0].argmax()]


def test_predictions_are_found_in_a_moved_output_folder(tmp_path):
    drawn.push(tmp_path / "before", images=20)
    drawn.predict(tmp_path / "before", probabilities(5))
    (tmp_path / "before").rename(tmp_path / "after")
    found = reference.load(lookup.model(tmp_path / "after", published=True).intact_versions[1])
    assert len(found.predictions.labels) == 5


def test_predictions_are_found_after_a_rollback(out):
    (out / "other" / "assets").mkdir(parents=True)
    (out / "other" / "assets" / "vocabulary.txt").write_text("a\n")
    (out / "other" / "saved_model.pb").write_bytes(b"another graph")
    versions.publish(out / "model", {"": out / "other"}, {"vocabulary": ["a"]})
    rollback.rollback(out / "model", 1)
    assert (
        reference.load(lookup.model(out, published=True).intact_versions[3]).predictions is not None
    )


def test_a_model_outside_its_run_has_no_predictions(out, tmp_path):
    shutil.move(out / "model", tmp_path / "elsewhere")
    version = lookup.model(tmp_path / "elsewhere", published=True).intact_versions[1]
    assert "holds no run with predictions of this model" in reference.load(version).missing


def test_a_version_without_statistics_is_refused(out):
    version = lookup.model(out, published=True).intact_versions[1]
    shutil.rmtree(version.path / "provenance")
    with pytest.raises(ResourceError, match=r"version 1 in .* has no statistics of its training"):
        reference.load(version)


def test_damaged_predictions_are_named(tmp_path):
    drawn.push(tmp_path, images=20)
    drawn.predict(tmp_path, probabilities(5))
    (tmp_path / "artifacts/Predictor/predictions/11/added").write_text("")
    with pytest.raises(ResourceError, match="11 is damaged: added was added after"):
        reference.load(lookup.model(tmp_path, published=True).intact_versions[1])
