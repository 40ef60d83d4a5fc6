"""Tests of which artifacts a run leaves when it has ended, in the folders of which runs."""

import shutil
from pathlib import Path

import pytest

from imgpipe.pipeline.commands import rollback
from imgpipe.pipeline.output import lookup
from imgpipe.pipeline.output.output_folder import OutputFolder
from tests.pipeline import past_runs
from tests.pipeline.past_runs import FIRST, LAST, SECOND

_MODEL, _EXAMPLES = ("ImageTrainer", "model"), ("ImageFilter", "examples")


def _leave(out: Path, name: str, reused: dict[str, dict[str, str]], **facts: object) -> None:
    """Leave a run with predictions of its own, which takes other artifacts from earlier runs."""
    own = past_runs.artifact(out, name, "ImageEvaluator", "predictions")
    past_runs.leave(out, name, artifacts={**reused, **own}, **facts)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return a folder of three runs: the later ones reuse the images of the first, which published
    version 1, and the last one reuses the model of the second.
    """
    images = past_runs.artifact(tmp_path, FIRST, *_EXAMPLES)
    models = [past_runs.artifact(tmp_path, name, *_MODEL) for name in (FIRST, SECOND)]
    _leave(tmp_path, FIRST, images | models[0], version=1)
    for name in (SECOND, LAST):
        _leave(tmp_path, name, images | models[1])
    past_runs.saved_model(tmp_path / "model" / "1")
    return tmp_path


def _kept(out: Path, last: int) -> set[str]:
    """Clean as a run does at its end; return the run and the component of what is left."""
    OutputFolder(out).clean(last)
    folders = out.glob("runs/*/artifacts/*/*/[0-9]*")
    return {f"{folder.parts[-5]} {folder.parts[-3]}" for folder in folders}


def test_what_a_kept_run_reuses_stays_in_the_folder_of_an_earlier_run(out: Path) -> None:
    shutil.rmtree(out / "model" / "1")  # which no rollback can publish again
    assert _kept(out, 1) == {
        f"{FIRST} ImageFilter",
        f"{SECOND} ImageTrainer",
        f"{LAST} ImageEvaluator",
    }
    assert all(Path(run.artifact(*_EXAMPLES)).is_dir() for run in OutputFolder(out).runs)


def test_the_runs_of_versions_keep_their_images_and_answers(out: Path) -> None:
    mine = {f"{FIRST} ImageFilter", f"{FIRST} ImageEvaluator"}
    assert _kept(out, 1) == mine | {f"{SECOND} ImageTrainer", f"{LAST} ImageEvaluator"}
    assert _kept(out, 0) == _kept(out, 1), "0 removes nothing"
    assert len(list(out.glob("runs/*/result.json"))) == 3


def test_the_last_runs_and_the_newest_that_judged_a_model_keep_theirs(out: Path) -> None:
    refused = [f"2026020{number}-100000" for number in (1, 2, 3)]
    for name in refused:
        _leave(out, name, {}, status="refused", correct=None)
    kept = _kept(out, 2)
    assert {f"{LAST} ImageEvaluator", *(f"{name} ImageEvaluator" for name in refused[1:])} < kept
    assert not (out / "runs" / refused[0] / "artifacts").exists()


def test_what_a_killed_run_did_not_finish_is_removed(out: Path) -> None:
    past_runs.artifact(out, "20260201-100000", "FeatureBank", "features", 2)
    finished = past_runs.artifact(out, "20260201-100000", "ImageExampleGen", "examples")
    past_runs.leave(out, "20260201-100000", status="", artifacts=finished)
    assert not any("FeatureBank" in kept for kept in _kept(out, 3))
    assert "20260201-100000 ImageExampleGen" in _kept(out, 3)


def test_the_run_whose_model_was_rolled_back_to_is_found_and_keeps_its_artifacts(
    out: Path,
) -> None:
    model = out / "model"
    shutil.rmtree(model)
    past_runs.publish_two(out)
    rollback.rollback(out, 1)
    rollback.rollback(out, 3)
    for number in (1, 2, 3):  # as runs that publish remove them
        shutil.rmtree(model / str(number))
    assert lookup.run(model / "4").name == FIRST
    assert f"{FIRST} ImageEvaluator" in _kept(out, 1)


def test_all_artifacts_stay_if_a_kept_run_did_not_record_which_it_used(out: Path) -> None:
    (out / "runs" / LAST / "artifacts.json").unlink()
    assert f"{SECOND} ImageEvaluator" in _kept(out, 1)
