"""Tests that `imgpipe.run`, `imgpipe.check` and `imgpipe.load` agree with the commands."""

import html
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import imgpipe
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.files.described_files import MODEL_DIGEST
from tests import command, python_program
from tests.e2e.case import SETTINGS, Case
from tests.images import soft
from tests.pipeline import small_version

_CHECK, _RUN = imgpipe.check, imgpipe.run


@pytest.mark.parametrize(
    ("call", "given", "told"),
    [
        (
            _CHECK,
            {"model.image_size": 5000, "course.dropout": 0.5},
            r"^arguments: model.image_size: .* Received: 5000\.$",
        ),
        (_CHECK, {"data.classes": ["cat"]}, r"two or more different names: \('cat',\)"),
        (_CHECK, {"model.image_size": np.int64(96)}, "^model.image_size: expected a number"),
        (_CHECK, {"evaluate": {"threshold": None}}, "^evaluate.threshold: expected a number"),
        (_CHECK, {"evaluate": {"threshold": {0.5}}}, "^evaluate.threshold: expected a number"),
        (_RUN, {"start": "Trainr"}, "Trainr: this pipeline has no such component"),
        (_RUN, {"start": ""}, "this pipeline has no such component"),
        (_RUN, {"out": ""}, r"output folder .* is empty"),
        (_RUN, {"epochs": 3}, r"by section.*Received: epochs=3"),
    ],
)
def test_wrong_arguments_are_refused_by_name_before_anything_starts(
    case: Case, tmp_path: Path, call: Any, given: dict[str, Any], told: str
) -> None:
    if call is _RUN:
        given = {"out": tmp_path / "out", **given}
    with pytest.raises(ConfigError, match=told):
        call(case.photos, **given)
    assert not (tmp_path / "out").exists()


def test_check_gives_the_findings_of_the_command(case: Case, tmp_path: Path) -> None:
    check = imgpipe.check(bytes(case.photos), gate={"max_rejected_share": 0.3})
    found = command.answered("check", case.photos, "--set", "gate.max_rejected_share=0.3")
    assert {**check.result, "timings": 0} == {**found, "timings": 0}
    assert (check.verdict, check.refused) == (found["verdict"], found["status"] == "refused")
    page = check.save(tmp_path / "page.html").read_text("utf-8")
    assert "data:image/webp;base64," in page and html.escape(page) in check._repr_html_()


def test_a_loaded_model_takes_every_kind_of_image(tmp_path: Path) -> None:
    small_version.push(tmp_path / "out")
    image = tmp_path / "a.jpg"
    soft().save(image)
    with imgpipe.load(tmp_path / "out") as model:
        assert model.version == 1 and model.classes == small_version.CLASSES
        pixels = Image.open(image).convert("RGB")
        [by_path, by_bytes] = model.predict([image, image.read_bytes()])
        [alone] = model.predict(str(image), top=1)
        [by_pillow] = model.predict(pixels)
        [by_array] = model.predict(np.stack([np.asarray(pixels)]))
        [refused, beside] = model.predict([b"no image", image])
    assert "but text" in refused.error and refused.top == () and beside == by_path
    assert by_path.top == by_bytes.top and by_path.version == 1
    assert [name for name, _ in alone.top] == [name for name, _ in by_path.top[:1]]
    assert by_array.probability == pytest.approx(by_pillow.probability, abs=1e-5)
    assert by_pillow.probability == pytest.approx(by_path.probability, abs=0.05)
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


@pytest.mark.slow
def test_the_function_trains_the_weights_of_the_command(case: Case, tmp_path: Path) -> None:
    """Both in processes of their own, which import TensorFlow, and with features of their own."""
    settings: dict[str, Any] = {f"gate.{name}": value for name, value in SETTINGS["gate"].items()}
    settings |= {"course.views.count": 1, "model.image_size": 112, "evaluate.threshold": 0.0}
    function, out = tmp_path / "function", tmp_path / "command"
    program = (
        "import json, sys, imgpipe\n"
        "imgpipe.check(sys.argv[1])\n"
        "imgpipe.run(*sys.argv[1:3], minutes=0, **json.loads(sys.argv[3]))\n"
    )
    given = json.dumps({**settings, "bank.store": str(tmp_path / "features of the function")})
    python_program.printed(program, case.photos, function, given)
    settings["bank.store"] = str(tmp_path / "features of the command")
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    python_program.ran(
        *(sys.executable, "-m", "imgpipe.pipeline.cli", "run", case.photos),
        *("--out", out, "--minutes", 0, *words),
    )
    digests = [(place / "model" / "1" / MODEL_DIGEST).read_bytes() for place in (function, out)]
    assert digests[0] == digests[1]


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
    program = (sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir")
    ended = python_program.ran(
        *(*program, tmp_path / "cache", "--follow-imports=silent", script),
        code=1,
        cwd=tmp_path,
    )
    wrong = [line for line in ended.stdout.splitlines() if ": error:" in line]
    last = len(_SCRIPT.splitlines())
    assert len(wrong) == 1 and wrong[0].startswith(f"{script.name}:{last}:"), ended.stdout
    assert 'Argument 1 to "run"' in wrong[0]
