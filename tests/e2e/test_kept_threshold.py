"""The threshold of a published version stays with its output folder, and a result that is lost."""

from pathlib import Path
from typing import Any

import pytest

from imgpipe.models.settings.settings import Settings
from imgpipe.pipeline.commands.run import blocks
from imgpipe.pipeline.configuration import config as configs
from imgpipe.pipeline.execution.pipeline_run import WorkingRun, execute
from tests.e2e.case import SETTINGS, Case

pytestmark = pytest.mark.slow

SAID = (
    "the accuracy that is asked for, 0.5, is that of version 1 in this output folder; "
    "--set evaluate.threshold=0.9 asks for the usual one"
)


@pytest.fixture(scope="module")
def published(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Return a case whose first run was given the threshold 0.5, and has published a model."""
    own = Case(case.photos, tmp_path_factory.mktemp("threshold") / "out")
    assert own.run().status == "blessed"
    return own


def _without_threshold(case: Case, **settings: object) -> Settings:
    tree = {
        **SETTINGS,
        "run": {"name": "hands", "out": str(case.out)},
        "data": {"source": str(case.photos)},
        "evaluate": {"cross_validate": 0},
    }
    return configs.build(tree, settings)


def _threshold(outcome: Any) -> tuple[float, list[str]]:
    kept = [each for each in outcome.result["findings"] if each["reason"] == "kept_threshold"]
    sentences = [each["sentence"] for each in kept]
    printed = str([*blocks(outcome, Settings().run)])
    assert all(f"{sentence[1:]}." in printed for sentence in sentences)
    return outcome.result["gate"]["threshold"], sentences


def test_a_run_without_a_threshold_asks_for_that_of_the_version(published: Case):
    again = execute(_without_threshold(published))
    assert (again.repeated, *_threshold(again)) == (True, 0.5, [SAID])
    computed = execute(_without_threshold(published), start="Report")
    assert (computed.repeated, *_threshold(computed)) == (False, 0.5, [SAID])
    assert {"ImageTrainer", "ImageEvaluator"} <= {*computed.result["cached"]}
    # The settings that a run leaves have the threshold that it was judged by.
    assert configs.load(computed.folder / "config.toml").evaluate.threshold == 0.5
    shown = execute(_without_threshold(published))
    assert (shown.repeated, *_threshold(shown)) == (True, 0.5, [SAID])
    given = published.run()
    assert (given.repeated, *_threshold(given)) == (True, 0.5, [])


def test_a_threshold_that_is_given_is_the_one_that_counts(published: Case):
    given = execute(_without_threshold(published, **{"evaluate.threshold": 0.9}))
    assert _threshold(given) == (0.9, [])


@pytest.mark.parametrize("text", [None, "", '{"verdict": "bl', "{}"])
def test_a_result_that_cannot_be_read_is_written_again(published, monkeypatch, text):
    finished = WorkingRun.finished

    def lose_result(run: WorkingRun, result: Any) -> None:
        finished(run, result)
        file = Path(run._directory / "result.json")
        if result.name == "Report":
            file.unlink() if text is None else file.write_text(text)

    monkeypatch.setattr(WorkingRun, "finished", lose_result)
    outcome = published.run(start="Report")
    assert (outcome.status, outcome.exit_code) == ("blessed", 0)
    assert outcome.verdict.startswith("blessed: ")
    monkeypatch.undo()
    repeated = published.run()
    assert (repeated.repeated, repeated.verdict) == (True, outcome.verdict)
