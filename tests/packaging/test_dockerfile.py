"""Tests of the Dockerfile, whose image is built and used without Docker."""

import os
import re
import shutil
from pathlib import Path

import pytest

from tests import python_program
from tests.conftest import REPOSITORY

_CLUSTER = REPOSITORY / "tests" / "cluster"  # its scripts keep the image in .cluster
_NEEDED = ("buildah", "debootstrap")
_SECONDS = 3000  # of the first time, when pip downloads all packages


def test_the_image_gets_every_folder_of_the_package() -> None:
    copied = re.findall(r"^COPY (\w+) \1$", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE)
    folders = {
        path.name for path in (REPOSITORY / "src" / "imgpipe").iterdir() if path.is_symlink()
    }
    assert folders | {"src"} == {*copied}


def _printed(*command: str | Path) -> str:
    return python_program.ran(*command, seconds=_SECONDS).stdout.strip()


@pytest.fixture(scope="module")
def run_sh() -> Path:
    """Return the program that runs another one in the image, which is built before."""
    missing = [program for program in _NEEDED if shutil.which(program) is None]
    if os.geteuid() or missing:
        pytest.skip(f"needs root, and {', '.join(missing or _NEEDED)}")
    _printed(_CLUSTER / "image.sh")
    return _CLUSTER / "run.sh"


@pytest.mark.slow
@pytest.mark.timeout(2 * _SECONDS)
def test_the_image_runs_the_demo_and_the_tasks_of_kubeflow_as_its_user(
    run_sh: Path, tmp_path: Path
) -> None:
    program = (
        "import os, sys, kfp.kubernetes, onnxruntime, pi_heif, s3fs, tf2onnx, imgpipe;"
        "print(os.getuid(), *sys.version_info[:2], imgpipe.__file__)"
    )
    packages = "/opt/venv/lib/python3.13/site-packages"
    said = _printed(run_sh, tmp_path, "python", "-c", program)
    assert said == f"1000 3 13 {packages}/imgpipe/__init__.py"
    module = "imgpipe.pipeline.kubeflow.entry_point"
    assert "--components" in _printed(run_sh, tmp_path, "python", "-m", module, "--help")
    assert "\nready" in _printed(run_sh, tmp_path, "imgpipe", "doctor")
    assert "blessed: " in _printed(run_sh, tmp_path, "imgpipe", "demo")
    installed = {*_printed(run_sh, tmp_path, "ls", packages).split()}
    assert {"tensorflow", "kfp"} <= installed
    assert not {"pytest", "mypy", "hypothesis"} & installed
