"""Tests that ``imgpipe.run``, ``imgpipe.check`` and ``imgpipe.load`` agree with the commands."""

from __future__ import annotations

import html
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import imgpipe
from imgpipe.models.errors import ConfigError, ImgpipeError, ResourceError
from tests import json_formats, python_program
from tests.e2e.case import SETTINGS, Case


def _run(case: Case, **sections: Any) -> Any:
    """Run the shared case with ``imgpipe.run``, with further sections of settings."""
    return imgpipe.run(case.photos, case.out, **{**SETTINGS, **sections})


@pytest.fixture
def image(case: Case) -> Path:
    """Return one good image of the drawn data set."""
    return sorted((case.photos / "rock").glob("*.jpg"))[0]


def test_run_gives_the_outcome_of_the_command(case: Case, first: Any) -> None:
    run = _run(case)
    assert run.repeated and run.folder == first.folder
    json_formats.conform("run", run.summary)
    assert run.status == "blessed" and run.blessed and run.exit_code == 0
    assert run.verdict == first.verdict
    assert run.accuracy == first.summary["gate"]["value"]
    assert run.metrics["validation"]["accuracy"] == pytest.approx(run.accuracy, abs=1e-6)
    assert run.model == case.out / "model" / "1"
    assert run.raise_for_status() is run
    page = run.report.read_text("utf-8")
    assert html.escape(page) in run._repr_html_()


def test_an_unblessed_run_is_returned_and_can_be_raised(first: Any) -> None:
    summary = {**first.summary, "push": {"status": "refused"}}
    run = imgpipe.Run(3, "not blessed: too bad", summary, first.folder)
    assert run.model is None
    with pytest.raises(ImgpipeError, match=r"not blessed: too bad. Log: .*run\.log") as caught:
        run.raise_for_status()
    assert caught.value.exit_code == 3


def test_numbers_of_numpy_are_settings(tmp_path: Path) -> None:
    wrong = {"image_size": np.int64(5000), "dropout": np.float32(0.5)}
    with pytest.raises(ConfigError, match=r"^config: model.image_size: .* Received: 5000\.$"):
        imgpipe.check(tmp_path, model=wrong)
    with pytest.raises(ConfigError, match=r"two or more different names: \('cat',\)"):
        imgpipe.check(tmp_path, **{"data.classes": np.array(["cat"])})


@pytest.mark.parametrize("value", [None, {0.5}, object])
def test_a_value_that_no_setting_can_have_is_refused_by_name(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^evaluate.threshold: expected a number.* Received: "):
        imgpipe.check(tmp_path, evaluate={"threshold": value})


@pytest.mark.parametrize("threshold", [None, "0.5", 90])
def test_a_threshold_that_is_no_share_is_refused(tmp_path: Path, threshold: Any) -> None:
    with pytest.raises(ConfigError, match=f"from 0 to 1. Received: {threshold!r}"):
        imgpipe.evaluate(tmp_path, tmp_path, threshold=threshold)


def test_a_path_may_be_bytes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{tmp_path}/gone"):
        imgpipe.check(bytes(tmp_path / "gone"))


def test_an_unknown_component_is_refused_before_anything_starts(case: Case, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Trainr: this pipeline has no such component"):
        imgpipe.run(case.photos, tmp_path / "out", start="Trainr")
    assert not (tmp_path / "out").exists()


def test_empty_names_are_no_defaults(case: Case) -> None:
    with pytest.raises(ConfigError, match="this pipeline has no such component"):
        imgpipe.run(case.photos, case.out, start="")
    with pytest.raises(ConfigError, match=r"output folder .* is empty"):
        imgpipe.run(case.photos, "")


def test_settings_are_checked_before_anything_starts(case: Case) -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'evaluate.threshold'\?"):
        imgpipe.run(case.photos, evaluate={"treshold": 0.5})
    with pytest.raises(ConfigError, match=r"by section.*Received: epochs=3"):
        imgpipe.run(case.photos, epochs=3)
    with pytest.raises(ConfigError, match="no configuration file and no preset named 'nothing'"):
        imgpipe.check(case.photos, config="nothing")


def test_check_gives_the_findings_of_the_command(case: Case, tmp_path: Path) -> None:
    from imgpipe.pipeline.application import app

    check = imgpipe.check(case.photos, gate={"max_rejected_share": 0.3})
    words = ["check", str(case.photos), "--set", "gate.max_rejected_share=0.3", "--json", "-"]
    command = json.loads(CliRunner().invoke(app, words).stdout)
    json_formats.conform("check", command)
    assert {**check.summary, "seconds": 0} == {**command, "seconds": 0}
    assert (check.verdict, check.refused) == (command["verdict"], command["refused"])
    page = check.save(tmp_path / "page.html").read_text("utf-8")
    assert "data:image/jpeg;base64," in page and html.escape(page) in check._repr_html_()


def test_a_loaded_model_takes_every_kind_of_image(case: Case, first: Any, image: Path) -> None:
    with imgpipe.load(case.out) as model:
        assert model.version == 1 and model.classes == ("paper", "rock", "scissors")
        pixels = Image.open(image).convert("RGB")
        [by_path, by_bytes] = model.predict([image, image.read_bytes()])
        [alone] = model.predict(str(image), top=2)
        [by_pillow] = model.predict(pixels)
        [by_array] = model.predict(np.stack([np.asarray(pixels)]))
        with pytest.raises(imgpipe.serving.client.InvalidArgument, match=r"image 0: .*Unknown"):
            model.predict([b"no image"])
    assert by_path == by_bytes and by_path.version == 1
    assert [name for name, _ in alone.top] == [name for name, _ in by_path.top[:2]]
    assert by_array.probability == pytest.approx(by_pillow.probability, abs=1e-5)
    assert by_pillow.probability == pytest.approx(by_path.probability, abs=0.05)


def test_load_refuses_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="there is no such folder"):
        imgpipe.load(tmp_path / "gone")


def test_the_package_imports_nothing_until_it_is_used() -> None:
    program = (
        "import sys; before = set(sys.modules); import imgpipe; imgpipe.__version__\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(new - {'imgpipe', '__future__'})\n"
        "imgpipe.run, imgpipe.check, imgpipe.load, imgpipe.Client\n"
        "print({'tensorflow', 'tfx', 'keras', 'apache_beam'} & set(sys.modules))\n"
    )
    assert python_program.printed(program).splitlines() == ["set()", "set()"]


_SCRIPT = """
from pathlib import Path

import imgpipe

check: imgpipe.Check = imgpipe.check("photos")
verdict: str = check.verdict
run: imgpipe.Run = imgpipe.run("photos", "out", minutes=1, evaluate={"threshold": 0.95})
blessed: bool = run.blessed
with imgpipe.load("out") as model:
    labels: list[str] = [answer.label for answer in model.predict([Path("a.jpg"), b"bytes"])]
passed: bool = imgpipe.evaluate("out", "new").passed
file: Path = imgpipe.export("onnx", "out", "model.onnx").file
client: imgpipe.Client = imgpipe.Client("localhost:8500")
imgpipe.run(5)
"""


@pytest.mark.slow
def test_a_type_checker_knows_the_public_names(tmp_path: Path) -> None:
    """Mypy finds one error, in the last line, which passes a number as the source of images."""
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir"]
    ended = subprocess.run(
        [*command, str(tmp_path / "cache"), "--follow-imports=silent", str(script)],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=tmp_path,
        check=False,
    )
    wrong = [line for line in ended.stdout.splitlines() if ": error:" in line]
    last = len(_SCRIPT.splitlines())
    assert len(wrong) == 1 and wrong[0].startswith(f"{script.name}:{last}:"), ended.stdout
    assert 'Argument 1 to "run"' in wrong[0]


def test_exports_are_compared_on_the_validation_images(case: Case, first: Any) -> None:
    from imgpipe.pipeline.published import exports
    from imgpipe.pipeline.published.evaluation import Model

    origin, images = exports.compared_images(Model.of(case.out / "model" / "1"))
    validation = sum(first.summary["data"]["splits"]["validation"].values())
    assert (origin, len(images)) == ("validation", validation)
