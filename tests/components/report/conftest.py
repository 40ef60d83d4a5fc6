"""Fixtures that several tests of the report share."""

import pytest


@pytest.fixture
def timings():
    """Return the timings of a run as the local runner keeps them, in seconds."""
    return {
        "total_s": 61.0,
        "import_s": 12.0,
        "components": {"FeatureBank": 30.0, "ImageTrainer": 9.5, "SchemaGen": 0.5},
        "cached": ["SchemaGen"],
    }
