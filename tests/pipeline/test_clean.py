"""Tests of what a run removes at its end, and what it keeps."""

import shutil

import pytest

from imgpipe.components.common.storage import integrity
from imgpipe.pipeline.commands import rollback
from imgpipe.pipeline.execution import local
from imgpipe.pipeline.output import lookup
from imgpipe.pipeline.output.output_folder import COPIES, OutputFolder, remove
from tests.pipeline.past_runs import leave, publish_two


def artifact(out, component, output, number):
    """Write a sealed artifact of 1,000 bytes; return what a run records about it."""
    folder = out / "artifacts" / component / output / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "content").write_bytes(b"x" * 1000)
    (folder / "Split-train").mkdir()
    (folder / "Split-train/images").write_bytes(b"x" * 5000)
    integrity.seal(folder)
    return {component: {output: str(folder)}}


@pytest.fixture
def out(tmp_path):
    """Return an output folder with three runs: the first published version 1."""
    shared = artifact(tmp_path, "ImageFilter", "examples", 2)
    for number, version in ((3, 1), (5, None), (7, None)):
        own = artifact(tmp_path, "Predictor", "predictions", number)
        name = f"2026010{number}-100000"
        leave(tmp_path, name, version=version, artifacts=shared | own, status="blessed")
    artifact(tmp_path, "ImageTrainer", "model", 6)  # belongs to no run that is left
    (tmp_path / "model/1").mkdir(parents=True)
    (tmp_path / "model/1/saved_model.pb").touch()
    (tmp_path / "runs/20260105-100000/tmp").mkdir()
    (tmp_path / "runs/20260105-100000/tmp/left").write_bytes(b"x" * 250)
    return tmp_path


def runs_kept(out, last=1):
    """Remove what a run removes at its end; return what is left, by component and number."""
    OutputFolder(out).clean(last)
    found = (out / "artifacts").glob("*/*/[0-9]*")
    return {(folder.parent.parent.name, int(folder.name)) for folder in found}


def test_what_neither_runs_nor_versions_need_is_removed(out):
    kept = {("ImageFilter", 2), ("Predictor", 3), ("Predictor", 7)}
    assert runs_kept(out) == kept
    assert not (out / "artifacts/Predictor/predictions/.seal-5.json").exists()
    for name in ("Predictor/predictions/3", "Predictor/predictions/7", "ImageFilter/examples/2"):
        assert not integrity.damage(out / "artifacts" / name, complete=True)
    assert (out / "model/1/saved_model.pb").exists()
    assert len(list(out.glob("runs/*/result.json"))) == 3
    assert OutputFolder(out).clean(1) == 0


def test_the_run_whose_model_was_rolled_back_to_is_found_and_keeps_its_artifacts(out):
    model = out / "model"
    shutil.rmtree(model)
    publish_two(out)
    rollback.rollback(out, 1)
    rollback.rollback(out, 3)
    for number in (1, 2, 3):  # as runs that publish remove them
        shutil.rmtree(model / str(number))
    assert lookup.run(model / "4").name == "20260103-100000"
    assert runs_kept(out) == {("ImageFilter", 2), ("Predictor", 3), ("Predictor", 7)}


def test_an_interrupted_run_keeps_its_artifacts(out):
    own = artifact(out, "FeatureBank", "features", 9)
    leave(out, "20260109-100000", status="interrupted", correct=None, artifacts=own)
    assert {("FeatureBank", 9), ("Predictor", 7)} < runs_kept(out)
    assert ("ImageTrainer", 6) not in runs_kept(out)


def test_a_run_without_a_list_of_its_artifacts_keeps_all_artifacts(out):
    (out / "runs/20260103-100000/artifacts.json").unlink()
    assert {("ImageTrainer", 6), ("Predictor", 5)} < runs_kept(out)


def test_the_end_of_a_run_keeps_the_last_runs_the_last_judged_one_and_those_of_versions(out):
    for number, correct in ((9, 18), (11, None), (12, None), (13, None)):
        own = artifact(out, "Predictor", "predictions", number)
        status = "refused" if correct is None else "blessed"
        leave(out, f"202601{number:02}-100000", status=status, correct=correct, artifacts=own)
    versions_and_judged = {("ImageFilter", 2), ("Predictor", 3), ("Predictor", 9)}
    last = {("Predictor", number) for number in (11, 12, 13)}
    assert runs_kept(out, 3) == versions_and_judged | last
    assert runs_kept(out, 2) == versions_and_judged | last - {("Predictor", 11)}


def test_copies_that_have_been_read_are_emptied_except_those_of_the_last_judged_run(out):
    for number in (20, 21):
        made = {"ImageFilter": {}, "Report": {}}
        made |= artifact(out, "ImageExampleGen", "examples", number)
        made |= artifact(out, "ModelPusher", "pushed_model", number)
        leave(out, f"202601{number}-100000", artifacts=made)
    unread = artifact(out, "ImageExampleGen", "examples", 22)
    leave(out, "20260122-100000", status="interrupted", correct=None, artifacts=unread)
    found, _ = OutputFolder(out).removable(3)
    emptied = {folder.relative_to(out / "artifacts").as_posix() for folder in found[COPIES]}
    assert emptied == {
        "ImageExampleGen/examples/20",
        "ModelPusher/pushed_model/20",
        "ModelPusher/pushed_model/21",
    }
    assert remove({COPIES: found[COPIES]}) == 15_000
    assert OutputFolder(out).removable(3)[0][COPIES] == []
    copy = out / "artifacts/ImageExampleGen/examples/20"
    assert [path.name for path in copy.iterdir()] == ["content"]
    local.require_whole([copy])  # as an output that is taken from the cache
    with pytest.raises(local.Damaged, match="its large files were removed to save space"):
        local.require_whole([copy], complete=True)  # as an input
