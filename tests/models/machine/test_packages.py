"""Tests of the command that installs a package into this Python."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from imgpipe.models.machine.packages import install_command, install_extra


def test_the_command_names_the_pip_of_this_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    assert install_command("one", "two[x]>=3") == "pip install one 'two[x]>=3'"
    done = subprocess.run(["pip", "--version"], capture_output=True, text=True, check=True)
    assert sys.prefix in done.stdout, "the environment has a pip of its own"


def test_where_another_pip_would_be_found_the_command_names_this_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "pip"
    other.write_text("#!/bin/sh\nexit 1\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for _ in range(2):
        words = shlex.split(install_command("one"))
        assert words[1:] == ["-m", "pip", "install", "one"]
        done = subprocess.run([*words[:3], "--version"], capture_output=True, text=True, check=True)
        assert sys.prefix in done.stdout
        other.unlink(missing_ok=True)  # without any pip it is the same


def test_an_extra_is_installed_by_the_names_of_its_packages() -> None:
    """pip refuses `imgpipe[heic]` where it finds no packages that meet imgpipe's requirements."""
    assert install_extra("heic").endswith(" install 'pi-heif>=1.4'")
    words = shlex.split(install_extra("onnx"))
    assert {word.partition(">=")[0] for word in words[words.index("install") + 1 :]} == {
        "onnx",
        "onnxruntime",
        "tf2onnx",
    }
