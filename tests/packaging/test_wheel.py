"""Tests of imgpipe's wheel: its files, and that it works beside packages of the same names."""

from __future__ import annotations

import json
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from imgpipe import __version__
from tests.e2e.case import SETTINGS

from .conftest import build, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]


@pytest.fixture(scope="module")
def drawn_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the drawn hands of the demo, some of which are damaged."""
    from imgpipe.pipeline.demo import draw

    return Path(draw(tmp_path_factory.mktemp("drawn") / "photos", 24, 112).directory)


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """Return a project in TFX's template layout, with packages named like imgpipe's folders."""
    for package in ("models", "pipeline", "components", "serving"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise ImportError('of the stranger')\n")
    return tmp_path


def test_the_wheel_contains_only_the_package(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names} == {"imgpipe", f"imgpipe-{__version__}.dist-info"}
    assert {name.split("/")[1] for name in names if name.startswith("imgpipe/")} == {
        "__init__.py",
        "py.typed",
        "components",
        "models",
        "pipeline",
        "serving",
    }
    assert "imgpipe/serving/client/protos.binpb" in names
    assert not [name for name in names if "__pycache__" in name]


def test_the_source_distribution_builds_the_same_wheel(distributions: Path, tmp_path: Path):
    with tarfile.open(next(distributions.glob("*.tar.gz"))) as archive:
        archive.extractall(tmp_path, filter="data")
    again = build(tmp_path / f"imgpipe-{__version__}", tmp_path / "again", "wheel")
    assert again.read_bytes() == next(distributions.glob("*.whl")).read_bytes()


def test_importing_the_package_loads_none_of_its_parts(python: Path, tmp_path: Path):
    """The parts would load NumPy or TensorFlow."""
    program = (
        "import sys; before = set(sys.modules); import imgpipe;"
        "print(imgpipe.__version__, imgpipe.__file__, *sorted(set(sys.modules) - before))"
    )
    version, file, *modules = run(python, "-c", program, cwd=tmp_path).split()
    assert version == __version__
    assert Path(file).is_relative_to(python.parent.parent)
    assert {module.split(".")[0] for module in modules} - sys.stdlib_module_names == {"imgpipe"}
    assert "imgpipe.models" not in modules


def test_check_and_run_work_in_a_project_with_packages_of_the_same_names(
    python: Path, stranger: Path, drawn_photos: Path
):
    command = (python, "-m", "imgpipe.pipeline.cli")
    settings = {
        f"{section}.{key}": value for section, row in SETTINGS.items() for key, value in row.items()
    } | {"train.epochs": 1, "evaluate.threshold": 0.1}
    assignments = [part for item in settings.items() for part in ("--set", "{}={}".format(*item))]

    run(*command, "check", drawn_photos, "--json", "check.json", *assignments, cwd=stranger)
    assert json.loads((stranger / "check.json").read_text())["rejected"] > 0

    run(*command, "run", drawn_photos, "--out", "out", *assignments, cwd=stranger)
    assert (stranger / "out" / "model" / "1" / "saved_model.pb").is_file()
