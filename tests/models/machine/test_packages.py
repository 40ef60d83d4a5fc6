"""Tests of the command that installs a package into this Python."""

import shlex
import sys

from imgpipe.models.machine.system import install_command, install_extra


def test_the_command_names_this_python() -> None:
    words = shlex.split(install_command("one", "two[x]>=3"))
    assert words == [sys.executable, "-m", "pip", "install", "one", "two[x]>=3"]


def test_an_extra_is_installed_by_the_names_of_its_packages() -> None:
    """pip refuses `imgpipe[heic]` where it finds no packages that meet imgpipe's requirements."""
    assert install_extra("heic").endswith(" install 'pi-heif>=1.4'")
    words = shlex.split(install_extra("onnx"))
    assert {word.partition(">=")[0] for word in words[words.index("install") + 1 :]} == {
        "onnx",
        "onnxruntime",
        "tf2onnx",
    }
