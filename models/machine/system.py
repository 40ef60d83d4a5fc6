"""The machine: its processors and memory, and the commands that install packages on it.

Nothing else reads `/proc`, `/sys` or `/dev`, or calls what only one of the systems has.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.metadata
import os
import platform
import resource
import shlex
import sys
from pathlib import Path
from typing import Final

_DEVICES: Final = Path("/dev")
#: Device files of GPUs on Linux, whose numbers a container keeps, and on Windows' subsystem for it.
_GPUS: Final = ("nvidia[0-9]*", "dxg")
#: Limits of a container's memory in bytes, of both versions of control groups.
_CONTAINER_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
#: Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_BLOCK: Final = bytes(1 << 24)
_MAC_OPEN_FILES: Final = 10_240  # OPEN_MAX, which every Mac allows


def install_command(*packages: str) -> str:
    """Return the command that installs packages into the Python of this process.

    It names this Python, because the terminal may find the pip of another one.

    Args:
        packages: Names with their extras and versions, as pip takes them.
    """
    return shlex.join([sys.executable, "-m", "pip", "install", *packages])


def install_extra(name: str) -> str:
    """Return the command that installs the packages of an extra of imgpipe, such as `heic`.

    It names them instead of `imgpipe[name]`, which pip refuses with a glibc before 2.39: there it
    finds no packages of TFX that meet the requirements of imgpipe itself.
    """
    packages = []
    for line in importlib.metadata.requires("imgpipe") or ():
        package, _, condition = line.partition(";")
        if condition.strip() == f"extra == '{name}'":
            packages.append(package.strip())
    return install_command(*packages)


def name() -> str:
    """Return the name of the system: "Linux", "Darwin" for a Mac, or another one."""
    return platform.system()


def architecture() -> str:
    """Return the architecture of the processor, such as "x86_64", "aarch64" or "arm64"."""
    return platform.machine()


def processors() -> int:
    """Return the number of processors that this process may use; the machine may have more."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def processor_features() -> frozenset[str]:
    """Return the names of the features of the processor; none where the system has no list."""
    described = Path("/proc/cpuinfo")
    return frozenset(described.read_text().split()) if described.exists() else frozenset()


def memory() -> int:
    """Return the memory in bytes that this process may use: of the machine, or of its container."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in _CONTAINER_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            limits.append(int(file.read_text()))
    return min(limits)


def limit_kept_memory(size: int) -> None:
    """Let the memory allocator of glibc return blocks of at least `size` bytes when they are freed.

    This holds for single blocks, and for what is free at the end of an arena, of which threads
    share eight for each core. The allocator does so by itself, but raises the size to 64 MiB as it
    meets larger blocks. Where the C library has no such function, nothing happens.
    """
    set_parameter = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_parameter is not None:
        set_parameter(_MMAP_THRESHOLD, size)
        set_parameter(_TRIM_THRESHOLD, size)


def has_gpu_device() -> bool:
    """Return whether there is the device file of a GPU that TensorFlow could use."""
    return any(any(_DEVICES.glob(pattern)) for pattern in _GPUS)


def has_display() -> bool:
    """Return whether a window can be shown; on Linux, an environment variable names the display."""
    if name() != "Linux":
        return True
    return any(os.environ.get(variable) for variable in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


def open_files() -> frozenset[Path]:
    """Return the folders in which the open files of this process have their numbers as names."""
    return frozenset((Path(f"/proc/{os.getpid()}/fd"), Path("/dev/fd")))


def raise_open_files(wanted: int) -> None:
    """Raise the limit of open files of this process as far as the system allows; never lower it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    # A Mac whose hard limit is "infinity" refuses more than its kernel's own limit.
    for limit in (most, min(most, _MAC_OPEN_FILES)):
        if limit <= soft:
            return
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            return


def reserve(descriptor: int, size: int) -> None:
    """Give an empty file a size in bytes, and the space for it on the disk.

    Where the system has no function for it, zeros are written.

    Raises:
        OSError: There is no space for the file.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    for start in range(0, size, len(_BLOCK)):
        os.pwrite(descriptor, _BLOCK[: size - start], start)
