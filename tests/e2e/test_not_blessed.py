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
def refused(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Run the shared images with a threshold that no model reaches, and return the outcome."""
    own = Case(case.photos, tmp_path_factory.mktemp("refused") / "out")
    outcome = own.run("evaluate.threshold=1.0", "evaluate.cross_validate=2", "course.epochs=1")
    assert outcome.status == "not_blessed", outcome.verdict
    return outcome


@pytest.fixture
def photo(case: Case) -> Path:
    return case.photos / "rock" / "IMG_0001.jpg"


def test_the_run_ends_with_commands_that_look_try_and_publish(refused: Any):
    assert (refused.exit_code, refused.result["gate"]["failed"]) == (3, ["threshold"])
    for words in ("by 2 models that had not seen them", "is below the threshold 1"):
        assert words in refused.verdict
    assert refused.result["push"]["status"] == "refused"
    named = {one["reason"]: one["remedies"][0] for one in refused.next}
    assert named["look"] == f"imgpipe open {refused.folder}"
    assert named["try"] == f"imgpipe serve {refused.folder}"
    assert "use" not in named
    publish = shlex.split(named["publish"])
    assert publish[:4] == ["imgpipe", "run", "--config", str(refused.folder / "config.toml")]
    page = re.sub("</?span>", "", refused.report.read_text("utf-8"))  # around each word
    assert f"<pre>{named['publish']}</pre>" in page
    told = command.imgpipe("runs", str(refused.out)).stdout
    assert named["try"] in told and told.rstrip().endswith(named["publish"])


def test_predict_uses_the_model_of_a_run_and_says_that_it_was_not_blessed(
    refused: Any, photo: Path
):
    words = ("predict", "--model", str(refused.folder), str(photo), "--json", "-")
    done = command.imgpipe(*words)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"note: {_NOTICE}") and "below the threshold 1" in done.stderr
    [answer] = json.loads(done.stdout)
    json_formats.conform("predict", [answer])
    assert answer["label"] in ("paper", "rock", "scissors") and answer["version"] is None


def test_explain_and_evaluate_use_the_model_of_a_run(
    refused: Any, case: Case, photo: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    drawn = tmp_path / "drawn"
    command.imgpipe(
        *("explain", "--model", str(refused.folder), str(photo), "--to", str(drawn)),
    )
    assert _NOTICE in capfd.readouterr().out and list(drawn.rglob("grad_cam.png"))
    evaluated = imgpipe.evaluate(refused, case.photos)
    assert evaluated.result["evaluation"]["version"] is None
    assert evaluated.result["findings"][0]["sentence"].startswith(_NOTICE)
    seen = evaluated.result["evaluation"]["seen"]
    assert seen is not None and seen["count"] > 50  # the images of the run are known


def test_python_loads_the_model_of_a_run_or_of_its_folder(refused: Any, photo: Path):
    for named in (refused, refused.folder, str(refused.folder)):
        with imgpipe.load(named) as model:
            assert model.notice.startswith(_NOTICE) and model.version is None
            assert model.predict(photo)[0].label in model.classes
    with pytest.raises(ConfigError, match="is one model, and version 1 is another one"):
        imgpipe.load(refused, version=1)


def test_serve_shows_the_model_with_a_notice_and_publishes_nothing(refused: Any):
    process, lines = served_by_program(refused.folder)
    with urllib.request.urlopen(lines[0]["page"], timeout=20) as answer:
        page = answer.read().decode()
    assert Path(lines[0]["models"]["imgpipe"]).is_relative_to(refused.folder / "artifacts")
    process.terminate()
    _, told = process.communicate(timeout=40)
    assert lines[-1]["version"] == 0, told
    assert f'role="note">{_NOTICE}' in page and _NOTICE in told
    assert f"imgpipe run --config {refused.folder}" in told
    assert not (refused.out / "model").exists()


def test_a_run_whose_model_was_removed_says_how_it_is_made_again(refused: Any, tmp_path: Path):
    copy = shutil.copytree(refused.out, tmp_path / "copy")
    folder = copy / "runs" / refused.folder.name
    shutil.rmtree(folder / "artifacts" / "ImageTrainer")
    shutil.rmtree(folder / "artifacts" / "ImageEvaluator")
    with pytest.raises(ResourceError, match=rf"was removed: .*run\.keep.* --out {copy}"):
        imgpipe.load(folder)


def test_the_command_that_publishes_it_does_so_from_the_cache(refused: Any):
    """It is the last test, because the run publishes a version."""
    [publish] = [one["remedies"][0] for one in refused.next if one["reason"] == "publish"]
    words = shlex.split(publish)
    done = command.imgpipe(*words[1:], "--json", str(refused.out / "summary.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((refused.out / "summary.json").read_text())
    again = set(summary["timings"]["components"]) - set(summary["cached"])
    assert again == {"Plan", "ImageEvaluator", "ModelPusher", "Report"}
    assert summary["push"]["version"] == "1"
    assert summary["next"][-1]["remedies"][0] == f"imgpipe serve {refused.out} --model hands"
    # The folder of the run now stands for the version that was published.
    with imgpipe.load(refused.out / summary["folder"]) as model:
        assert (model.version, model.notice) == (1, "")
