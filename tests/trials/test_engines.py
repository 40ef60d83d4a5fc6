"""A whole run with Beam's worker processes gives the records of a run in one process."""

from pathlib import Path

import pytest

from imgpipe.pipeline.demo import draw
from tests.e2e.case import Case
from tests.engines.runs import read, require_same

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_worker_processes_give_the_results_of_one_process(tmp_path: Path):
    draw(tmp_path / "photos", per_class=24, size=96)
    for name, more in (("one", ()), ("processes", ("beam.runner=processes",))):
        done = Case(tmp_path / "photos", tmp_path / name).run(
            "evaluate.threshold=0.0", "evaluate.tfma=true", *more
        )
        assert done.exit_code == 0, done.verdict
    require_same(read(tmp_path / "processes"), read(tmp_path / "one"))
