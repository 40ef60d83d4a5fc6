"""Fixtures of the end-to-end tests, which share one drawn data set and its first run."""

import sys
from pathlib import Path
from typing import Any

import pytest

from imgpipe.pipeline.demo import draw
from tests.e2e.case import Case


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw the demo data set with its planted faults, 24 images of 112 px for each class."""
    return draw(tmp_path_factory.mktemp("drawn") / "photos", per_class=24, size=112)


@pytest.fixture(scope="session")
def case(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Return the case that tests share; the fixture `first` fills its output folder."""
    return Case(drawn, tmp_path_factory.mktemp("e2e") / "out")


@pytest.fixture(scope="session")
def first(case: Case) -> Any:
    """Run the shared case for the first time, and return the outcome.

    In this run nothing is cached, and the model is blessed and published. The program has arguments
    that TFX would take for its own and refuse.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["program", "-v", "--name"])
        return case.run()
