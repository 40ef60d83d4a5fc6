"""Tests that the steps of the Dockerfile, run without Docker, give a working installation."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

#: Settings of uv that use this machine's cache: hard links, and no compilation to bytecode.
_HERE = {
    "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR", str(Path.home() / ".cache" / "uv")),
    "UV_LINK_MODE": "hardlink",
    "UV_COMPILE_BYTECODE": "0",
}


def _instructions() -> Iterator[tuple[str, str]]:
    """Yield each instruction of the Dockerfile and its arguments, with continued lines joined."""
    text = re.sub(r"^#.*\n", "", (REPOSITORY / "Dockerfile").read_text(), flags=re.MULTILINE)
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            instruction, _, rest = line.partition(" ")
            yield instruction, rest.strip()


class Root:
    """A folder that stands for the root of the image, in which only Python is installed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cwd = folder, folder
        venv.create(folder / "usr", with_pip=True, symlinks=True)
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
            "PATH": f"{folder}/usr/bin:/usr/local/bin:/usr/bin:/bin",
        }
        self.environment.setdefault("UV_SYSTEM_CERTS", "1")  # as in the Makefile
        self.environment.pop("VIRTUAL_ENV", None)
        self.kept: dict[str, str] = {}

    def inside(self, text: str) -> str:
        """Replace paths below /opt of the image by paths of this machine."""
        return re.sub(r"(?<![\w./])/opt\b", f"{self.folder}/opt", text)

    def follow(self, instruction: str, rest: str) -> None:
        """Do what an instruction of a Dockerfile says."""
        if instruction in ("USER", "EXPOSE", "ENTRYPOINT"):
            self.kept[instruction] = rest
        else:
            getattr(self, f"_{instruction.lower()}")(rest)

    def _from(self, image: str) -> None:
        """Assert that the base image has the Python version of these tests."""
        assert image == f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"

    def _env(self, rest: str) -> None:
        """Set environment variables, of which `_HERE` and HOME are kept for this machine."""
        for pair in shlex.split(self.inside(rest)):
            key, _, value = pair.partition("=")
            self.environment[key] = value.replace("$PATH", self.environment["PATH"])
        self.environment |= {**_HERE, "HOME": os.environ["HOME"]}

    def _workdir(self, folder: str) -> None:
        """Create a folder and make it the working folder."""
        self.cwd = Path(self.inside(folder))
        self.cwd.mkdir(parents=True, exist_ok=True)

    def _copy(self, rest: str) -> None:
        """Copy files and folders of the repository."""
        *sources, target = rest.split()
        for name in sources:
            source = REPOSITORY / name
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, self.cwd / target, symlinks=True, ignore=ignored)
            else:
                shutil.copy(source, self.cwd / target)

    def _run(self, rest: str) -> None:
        """Run a shell command in the working folder, without its mounts."""
        self.run("sh", "-c", self.inside(re.sub(r"--mount=\S+ ", "", rest)), cwd=self.cwd)

    def run(self, *command: str, cwd: Path) -> str:
        """Run a program with the environment of the image and return its output."""
        done = subprocess.run(
            command, cwd=cwd, env=self.environment, capture_output=True, text=True, timeout=1000
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def root() -> Iterator[Root]:
    """Return a root after all steps of the Dockerfile, which any user may read."""
    # Only this user may enter pytest's own folders.
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        found = Root(folder)
        probe = [folder / "usr" / "bin" / "pip", "download", "-q", "--no-deps", "-d", folder, "uv"]
        if subprocess.run(probe, env=found.environment, capture_output=True).returncode:
            pytest.skip("needs a package index, which pip does not reach")
        for instruction, rest in _instructions():
            found.follow(instruction, rest)
        yield found


def test_the_command_and_the_entry_point_run_as_another_user(root: Root, tmp_path: Path):
    root.environment["HOME"] = "/tmp"
    user = root.kept["USER"]
    as_user = ["setpriv", "--clear-groups", "--reuid", user, "--regid", user]
    probe = [*as_user, "python", "-c", ""]  # other users may not be able to run this Python
    if os.geteuid() or subprocess.run(probe, env=root.environment).returncode:
        as_user = []
    (command,) = json.loads(root.kept["ENTRYPOINT"])
    assert "kubeflow" in root.run(*as_user, command, "--help", cwd=Path("/"))
    module = "imgpipe.pipeline.kubeflow.entry_point"
    help_ = root.run(*as_user, "python", "-m", module, "--help", cwd=Path("/"))
    assert "--components" in help_
    loaded = "import tfx, kfp.kubernetes, imgpipe.components as c; print(c.Report, c.__file__)"
    where = root.run(*as_user, "python", "-c", loaded, cwd=Path("/"))
    assert f"{root.folder}/opt/venv/lib" in where, "it is installed, not read from the sources"
    (packages,) = (root.folder / "opt" / "venv" / "lib").glob("python3*/site-packages")
    assert (packages / "tensorflow").is_dir() and (packages / "kfp").is_dir()
    assert not {"pytest", "mypy", "hypothesis"} & {path.name for path in packages.iterdir()}
