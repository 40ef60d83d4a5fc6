"""The built distributions, and virtual environments like those of users."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests import python_program
from tests.conftest import REPOSITORY


def build(folder: Path, output: Path, *targets: str) -> None:
    """Builds distributions of the project in a folder without a network."""
    arguments = [part for target in targets for part in ("-t", target)]
    command = (sys.executable, "-m", "hatchling", "build", "-d", output, *arguments)
    python_program.ran(*command, cwd=folder)


def build_all(project: Path, output: Path) -> None:
    """Builds all distributions of a copy of the repository."""
    build(project, output, "sdist", "wheel")
    build(project / "packaging" / "client", output, "wheel")


def run(*command: str | Path, cwd: Path, status: int = 0) -> str:
    """Runs a program without the Python and pip settings of these tests and returns its output."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_"))}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=variables, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def failure(*command: str | Path, cwd: Path) -> str:
    """Runs uv and returns what it wrote of its failure, or nothing."""
    environment = os.environ | {"UV_SYSTEM_CERTS": "1"}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=280
    )
    return (done.stderr.strip() or f"exit code {done.returncode}") if done.returncode else ""


def program_of_uv() -> str:
    """Returns the path of uv, which reads the lock and finds other versions of Python."""
    uv = shutil.which("uv") or str(REPOSITORY / ".tools" / "bin" / "uv")
    if not Path(uv).is_file():
        pytest.skip("needs uv")
    return uv


def make(output: Path, *arguments: str) -> None:
    """Makes targets of the repository's Makefile whose files are written to `output`."""
    uv = program_of_uv()
    run("make", *arguments, f"UV={uv}", f"DIST={output}", cwd=REPOSITORY)


def install(python: Path, *arguments: str | Path) -> str:
    """Installs packages with an environment's pip, without a network, and returns pip's output."""
    command = (python, "-m", "pip", "install", "--no-index", *arguments)
    return run(*command, cwd=python.parent.parent)


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder with the distributions of imgpipe and of its client."""
    folder = tmp_path_factory.mktemp("dist")
    build_all(REPOSITORY, folder)
    return folder


@pytest.fixture(scope="session")
def wheel(distributions: Path) -> Path:
    return next(distributions.glob("imgpipe-*.whl"))


@pytest.fixture(scope="session")
def client_wheel(distributions: Path) -> Path:
    return next(distributions.glob("imgpipe_client-*.whl"))


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """Returns the Python of an environment with the wheel and the packages of the lock.

    The packages are those of the environment that runs the tests. Its `.pth` files are not read
    again, so the editable install of the repository is not found.
    """
    folder = tmp_path_factory.mktemp("user") / "venv"
    venv.create(folder, with_pip=True, symlinks=True)
    interpreter = folder / "bin" / "python"
    run(interpreter, "-m", "pip", "uninstall", "-q", "-y", "setuptools", cwd=folder)
    [packages] = folder.glob("lib/python3*/site-packages")
    (packages / "locked.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    install(interpreter, "-q", "--no-deps", wheel)
    return interpreter
