"""The published version that all tests of request drift share.

A test that changes the version works on a copy.
"""

import importlib

import pytest

from tests.pipeline import small_version
from tests.pipeline.request_drift import drawn


@pytest.fixture(scope="session")
def pushed(tmp_path_factory):
    """Return the output folder of a run with a published version and predictions of validation."""
    importlib.import_module("tfx.components")  # must be imported before TFDV
    out = tmp_path_factory.mktemp("pushed") / "out"
    drawn.push(out, answers=drawn.probabilities(200, seed=7))
    return out


@pytest.fixture(scope="session")
def out(tmp_path_factory):
    """Return an output folder with one version of a small network, unless a module has its own."""
    folder = tmp_path_factory.mktemp("small")
    small_version.push(folder, learned=True)
    return folder
