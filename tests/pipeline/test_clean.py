"""Tests of `imgpipe clean`: what it removes, what it keeps, and its refusal during a run."""

import functools
import shutil

import pytest

from imgpipe.components.common.storage import integrity
from imgpipe.models.errors import ResourceError
from imgpipe.pipeline.commands import clean, rollback
from imgpipe.pipeline.execution import local
from imgpipe.pipeline.output import lookup
from imgpipe.pipeline.output.output_folder import COPIES, OutputFolder, remove
from tests.command import ran
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


def exists(out, *parts):
    return out.joinpath("artifacts", *map(str, parts)).is_dir()


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


invoke = functools.partial(ran, "clean")


def test_without_yes_nothing_is_removed(out):
    listed = invoke(out).stdout
    assert {line.split()[0] for line in listed.splitlines() if line.startswith("  ")} == {
        "artifacts/Predictor/predictions/5",
        "artifacts/ImageTrainer/model/6",
        "runs/20260105-100000/tmp",
    }
    assert exists(out, "Predictor/predictions/5")
    assert "Delete the files with: imgpipe clean" in listed and "note:" not in listed


def test_yes_removes_what_neither_runs_nor_versions_need(out):
    result = invoke(out / "model", "--yes")
    assert result.exit_code == 0, result.output
    assert "were freed. Versions, reports and results are kept." in result.stdout
    assert "The predictions of these runs, which `imgpipe compare` needs" in result.stdout
    assert not exists(out, "Predictor/predictions/5") and not exists(out, "ImageTrainer/model/6")
    assert not (out / "artifacts/Predictor/predictions/.seal-5.json").exists()
    for kept in ("Predictor/predictions/3", "Predictor/predictions/7", "ImageFilter/examples/2"):
        assert exists(out, kept) and not integrity.damage(out / "artifacts" / kept, complete=True)
    assert (out / "model/1/saved_model.pb").exists()
    assert len(list(out.glob("runs/*/result.json"))) == 3
    assert "can be removed" in invoke(out).stdout


def test_the_run_whose_model_was_rolled_back_to_is_found_and_keeps_its_artifacts(out):
    model = out / "model"
    shutil.rmtree(model)
    publish_two(out)
    rollback.rollback(model, 1)
    rollback.rollback(model, 3)
    for number in (1, 2, 3):  # as runs that publish remove them
        shutil.rmtree(model / str(number))
    assert lookup.run(model / "4").name == "20260103-100000"
    invoke(out, "--yes")
    assert exists(out, "Predictor/predictions/3") and not exists(out, "Predictor/predictions/5")


def test_an_interrupted_run_keeps_its_artifacts(out):
    own = artifact(out, "FeatureBank", "features", 9)
    leave(out, "20260109-100000", status="interrupted", correct=None, artifacts=own)
    invoke(out, "--yes")
    assert exists(out, "FeatureBank/features/9") and exists(out, "Predictor/predictions/7")
    assert not exists(out, "ImageTrainer/model/6")


def test_a_run_without_a_list_of_its_artifacts_keeps_all_artifacts(out):
    (out / "runs/20260103-100000/artifacts.json").unlink()
    result = invoke(out, "--yes")
    assert exists(out, "ImageTrainer/model/6")
    assert "all artifacts are kept, because run 20260103-100000 did not record" in result.stdout


def test_clean_is_refused_while_a_run_is_working(out):
    words = r"a run is working in .* Wait until it has ended"
    with OutputFolder(out).locked("busy"), pytest.raises(ResourceError, match=words):
        clean.command(out, True)
    assert exists(out, "Predictor/predictions/5")


def runs_kept(out, last):
    """Remove what a run removes at its end; return what is left, by component and number."""
    remove(OutputFolder(out).removable(last)[0])
    found = (out / "artifacts").glob("*/*/[0-9]*")
    return {(folder.parent.parent.name, int(folder.name)) for folder in found}


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
