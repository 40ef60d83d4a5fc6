"""What the system has, asked as on Linux and as on a Mac."""

import os
import platform
import resource
import shlex
import sys
from pathlib import Path

import pytest

from imgpipe.models.machine import system


def test_the_processors_are_those_of_this_process(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5, 7}, raising=False)
    assert system.processors() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert system.processors() == os.cpu_count()


def test_the_memory_of_a_container_is_a_limit(monkeypatch, tmp_path):
    monkeypatch.setattr(system, "_CONTAINER_LIMITS", (tmp_path / "max", tmp_path / "gone"))
    (tmp_path / "max").write_text("max\n")
    machine = system.memory()
    assert machine > 1 << 28
    (tmp_path / "max").write_text("1048576\n")
    assert system.memory() == 1 << 20


@pytest.mark.parametrize(
    ("device", "is_gpu"),
    [
        *(("nvidia0", True), ("nvidia1", True), ("nvidia12", True), ("dxg", True)),
        *(("nvidiactl", False), ("nvidia-uvm", False), ("null", False)),
    ],
)
def test_a_gpu_has_a_device_file_of_any_number(monkeypatch, tmp_path, device, is_gpu):
    monkeypatch.setattr(system, "_DEVICES", tmp_path)
    (tmp_path / device).touch()
    assert system.has_gpu_device() is is_gpu


@pytest.mark.parametrize("reserves", [True, False])
def test_a_file_has_its_size_and_its_space(monkeypatch, tmp_path, reserves):
    if not reserves:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    size = (1 << 24) + 5
    with (tmp_path / "file").open("w+b") as file:
        system.reserve(file.fileno(), size)
    found = (tmp_path / "file").stat()
    assert found.st_size == size
    assert found.st_blocks * 512 >= size


def test_a_file_without_space_is_an_error_before_it_is_used():
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    with pytest.MonkeyPatch.context() as patch, full.open("wb", buffering=0) as file:
        patch.delattr(os, "posix_fallocate", raising=False)
        with pytest.raises(OSError, match="No space left"):
            system.reserve(file.fileno(), 10)


@pytest.mark.parametrize(
    ("limits", "most", "expected"),
    [
        ((1024, 4096), 10**9, [4096]),
        ((1024, resource.RLIM_INFINITY), 10**9, [65_536]),
        ((256, resource.RLIM_INFINITY), 20_000, [65_536, 10_240]),  # as the kernel of a Mac
        ((65_536, 65_536), 10**9, []),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), 10**9, []),
    ],
)
def test_the_limit_of_open_files_is_raised_as_far_as_possible(monkeypatch, limits, most, expected):
    asked: list[int] = []

    def set_limit(kind: int, both: tuple[int, int]) -> None:
        asked.append(both[0])
        if both[0] > most:
            raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits)
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    system.raise_open_files(65_536)
    assert asked == expected


def test_a_display_is_asked_for_on_linux_only(monkeypatch):
    for variable in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    assert not system.has_display()
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert system.has_display()
    monkeypatch.delenv("WAYLAND_DISPLAY")
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert system.has_display()


def test_the_command_names_this_python():
    words = shlex.split(system.install_command("one", "two[x]>=3"))
    assert words == [sys.executable, "-m", "pip", "install", "one", "two[x]>=3"]


def test_an_extra_is_installed_by_the_names_of_its_packages():
    """pip refuses `imgpipe[heic]` where it finds no packages that meet imgpipe's requirements."""
    assert system.install_extra("heic").endswith(" install 'pi-heif>=1.4'")
    words = shlex.split(system.install_extra("onnx"))
    assert {word.partition(">=")[0] for word in words[words.index("install") + 1 :]} == {
        "onnx",
        "onnxruntime",
        "tf2onnx",
    }
