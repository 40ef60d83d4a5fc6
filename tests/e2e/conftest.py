"""One drawn set and one output folder, run once a session; the tests look at what came out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.case import Case


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The drawn set with its planted faults."""
    from imgpipe.pipeline.demo import draw

    return draw(tmp_path_factory.mktemp("drawn") / "photos", per_class=24, size=112)


@pytest.fixture(scope="session")
def case(drawn: Any, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """The session's case; the first run of `first` fills its output folder."""
    return Case(Path(drawn.directory), tmp_path_factory.mktemp("e2e") / "out")


@pytest.fixture(scope="session")
def first(case: Case) -> Any:
    """Outcome of the first run: nothing cached, blessed, pushed.

    The program that runs it has arguments that TFX would take for its own and refuse.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["program", "-v", "--name"])
        return case.run()
