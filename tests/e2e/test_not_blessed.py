"""A run that is not blessed leads on: its model can be tried, and one command publishes it."""

import json
import re
import shlex
import shutil
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import imgpipe
from imgpipe.models.errors import ConfigError, ResourceError
from tests import command, json_formats
from tests.e2e.case import Case
from tests.serving.quick import served_by_program

pytestmark = pytest.mark.slow

_NOTICE = "This model was not blessed: cross-validation accuracy "


@pytest.fixture(scope="module")
def refused(case: Case, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Run the shared images with a threshold that no model reaches; return OUT and the outcome."""
    own = Case(case.photos, tmp_path_factory.mktemp("refused") / "out")
    outcome = own.run("evaluate.threshold=1.0", "evaluate.cross_validate=2", "course.epochs=1")
    assert outcome.status == "not_blessed", outcome.verdict
    return own.out, outcome


@pytest.fixture
def photo(case: Case) -> Path:
    """Return an image of the class rock."""
    return case.photos / "rock" / "IMG_0001.jpg"


def test_the_run_ends_with_commands_that_look_try_and_publish(refused: tuple[Path, Any]):
    out, outcome = refused
    assert (outcome.exit_code, outcome.result["gate"]["failed"]) == (3, ["threshold"])
    assert (
        "by 2 models that had not seen them" in outcome.verdict
        and "is below the threshold 1" in outcome.verdict
    )
    assert outcome.result["push"]["status"] == "refused"
    named = {one["reason"]: one["remedies"][0] for one in outcome.next}
    assert named["look"] == f"imgpipe open {out}"
    assert named["try"] == f"imgpipe serve {out} --run newest"
    assert "use" not in named
    publish = shlex.split(named["publish"])
    assert publish[:4] == ["imgpipe", "run", "--config", str(outcome.folder / "config.toml")]
    page = re.sub("</?span>", "", outcome.report.read_text("utf-8"))  # around each word
    assert f"<pre>{named['publish']}</pre>" in page
    told = command.imgpipe("runs", str(out)).stdout
    assert named["try"] in told and told.rstrip().endswith(named["publish"])


@pytest.mark.parametrize("by_name", [True, False])
def test_predict_uses_the_model_of_a_run_and_says_that_it_was_not_blessed(
    refused: tuple[Path, Any], photo: Path, by_name: bool
):
    out, outcome = refused
    model = [str(out), "--run", "newest"] if by_name else [str(outcome.folder)]
    done = command.imgpipe("predict", "--model", *model, str(photo), "--json", "-")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"note: {_NOTICE}") and "below the threshold 1" in done.stderr
    [answer] = json.loads(done.stdout)
    json_formats.conform("predict", [answer])
    assert answer["label"] in ("paper", "rock", "scissors") and answer["version"] is None


def test_explain_and_evaluate_use_the_model_of_a_run(
    refused: tuple[Path, Any],
    case: Case,
    photo: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
):
    out, outcome = refused
    drawn = tmp_path / "drawn"
    command.imgpipe(
        *("explain", "--model", str(out), "--run", outcome.folder.name),
        *(str(photo), "--to", str(drawn)),
    )
    assert _NOTICE in capfd.readouterr().out and list(drawn.rglob("grad_cam.png"))
    evaluated = imgpipe.evaluate(outcome, case.photos)
    assert evaluated.result["evaluation"]["version"] is None
    assert evaluated.result["findings"][0]["sentence"].startswith(_NOTICE)
    seen = evaluated.result["evaluation"]["seen"]
    assert seen is not None and seen["count"] > 50  # the images of the run are known


def test_python_loads_the_model_of_a_run_or_of_its_folder(refused: tuple[Path, Any], photo: Path):
    _, outcome = refused
    for named in (outcome, outcome.folder, str(outcome.folder)):
        with imgpipe.load(named) as model:
            assert model.notice.startswith(_NOTICE) and model.version is None
            assert model.predict(photo)[0].label in model.classes
    with pytest.raises(ConfigError, match="is one model, and version 1 is another one"):
        imgpipe.load(outcome, version=1)


def test_serve_shows_the_model_with_a_notice_and_publishes_nothing(refused: tuple[Path, Any]):
    out, outcome = refused
    process, lines = served_by_program(out, "--run", "newest")
    with urllib.request.urlopen(lines[0]["page"], timeout=20) as answer:
        page = answer.read().decode()
    assert Path(lines[0]["models"]["imgpipe"]).is_relative_to(out / "artifacts")
    process.terminate()
    _, told = process.communicate(timeout=40)
    assert lines[-1]["version"] == 0, told
    assert f'role="note">{_NOTICE}' in page and _NOTICE in told
    assert f"imgpipe run --config {outcome.folder}" in told
    assert not (out / "model").exists()


def test_a_run_whose_model_was_removed_says_how_it_is_made_again(
    refused: tuple[Path, Any], tmp_path: Path
):
    out, outcome = refused
    copy = shutil.copytree(out, tmp_path / "copy")
    shutil.rmtree(copy / "artifacts" / "ImageTrainer")
    shutil.rmtree(copy / "artifacts" / "Predictor")
    folder = copy / "runs" / outcome.folder.name
    with pytest.raises(ResourceError, match=rf"was removed .*run\.keep.* --out {copy}"):
        imgpipe.load(folder)


def test_the_command_that_publishes_it_does_so_from_the_cache(refused: tuple[Path, Any]):
    """It is the last test, because the run publishes a version."""
    out, outcome = refused
    [publish] = [one["remedies"][0] for one in outcome.next if one["reason"] == "publish"]
    words = shlex.split(publish)
    done = command.imgpipe(*words[1:], "--json", str(out / "summary.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((out / "summary.json").read_text())
    again = set(summary["timings"]["components"]) - set(summary["cached"])
    assert again == {"Plan", "ImageEvaluator", "ModelPusher", "Report"}
    assert summary["push"]["version"] == "1"
    assert summary["next"][-1]["remedies"][0] == f"imgpipe serve {out} --model hands"
    # The name of the run now stands for the version that was published.
    with imgpipe.load(out / summary["folder"]) as model:
        assert (model.version, model.notice) == (1, "")
