"""Tests of imgpipe's wheel: its files, and that it works beside packages of the same names."""

import json
import sys
import zipfile
from pathlib import Path

import pytest

from imgpipe import __version__
from imgpipe.pipeline.demo import draw
from tests import python_program
from tests.e2e.case import as_assignments

from .conftest import install, make, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]


def test_the_wheel_contains_only_the_package(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names} == {"imgpipe", f"imgpipe-{__version__}.dist-info"}
    rooms = {"components", "models", "pipeline", "serving"}
    inside = {name.split("/")[1] for name in names if name.startswith("imgpipe/")}
    assert inside == {"__init__.py", "__main__.py", "py.typed", *rooms}
    assert "imgpipe/serving/client/protos.binpb" in names
    assert {f"imgpipe/serving/server/web/{name}" for name in ("index.html", "page.js")} <= {*names}
    assert not [name for name in names if "__pycache__" in name]


def test_an_index_would_take_the_distributions(distributions: Path) -> None:
    program = (sys.executable, "-m", "twine", "check", "--strict")
    said = python_program.ran(*program, *distributions.iterdir()).stdout
    assert said.count("PASSED") == 3, said


def test_pip_finds_every_locked_requirement_met_and_the_package_imports_nothing(
    python: Path, tmp_path: Path
):
    """Nothing is downloaded, because each requirement is met by a package of the environment."""
    make(tmp_path, "requirements")
    file = tmp_path / "requirements.txt"
    assert "kfp==" not in file.read_text()
    lines = install(python, "--no-deps", "-r", file).splitlines()
    said = [line for line in lines if not line.startswith("Ignoring ")]  # of other systems
    assert len(said) > 200
    assert [line for line in said if not line.startswith("Requirement already satisfied")] == []

    program = (
        "import sys; before = set(sys.modules); import imgpipe;"
        "print(imgpipe.__version__, imgpipe.__file__, *sorted(set(sys.modules) - before))"
    )
    version, module, *modules = run(python, "-c", program, cwd=tmp_path).split()
    assert version == __version__ and Path(module).is_relative_to(python.parent.parent)
    assert {module.split(".")[0] for module in modules} - sys.stdlib_module_names == {"imgpipe"}
    assert "imgpipe.models" not in modules


def test_check_and_run_work_in_a_project_with_packages_of_the_same_names(
    python: Path, tmp_path: Path
):
    """As in TFX's template, which names folders as imgpipe does."""
    for package in ("models", "pipeline", "components", "serving"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise ImportError('of the stranger')\n")
    photos = draw(tmp_path / "photos", 24, 112)
    command = (python, "-m", "imgpipe.pipeline.cli")
    given = [*as_assignments(), "course.epochs=1", "evaluate.threshold=0.1"]
    assignments = [word for one in given for word in ("--set", one)]

    run(*command, "check", photos, "--json", "check.json", *assignments, cwd=tmp_path)
    assert json.loads((tmp_path / "check.json").read_text())["data"]["rejected"] > 0

    run(*command, "run", photos, "--out", "out", *assignments, cwd=tmp_path)
    assert (tmp_path / "out" / "model" / "1" / "saved_model.pb").is_file()
