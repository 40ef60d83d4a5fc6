"""Checks whether this machine can run the pipeline, for `imgpipe doctor`."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from imgpipe.models.packages import install_command
from imgpipe.models.process import processors

_GIB = 1 << 30
_DISK_GIB = 2.0  # about the disk space of a run on 10,000 images
_LEAST_DISK_GIB = 0.2  # below it, a run on a few images fails as well
_MEMORY_GIB = 4.0  # peak of a run on 1,240 images is under 3
#: Limits of a container's memory in bytes, of both versions of control groups.
_CONTAINER_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
#: They exist where the driver of a GPU is loaded; the second one on Windows' subsystem for Linux.
_DRIVERS = (Path("/proc/driver/nvidia/version"), Path("/dev/dxg"))
_PACKAGES = ("tensorflow", "keras", "tfx", "apache-beam", "tensorflow-model-analysis", "grpcio")


@dataclass(frozen=True)
class MachineFinding:
    """The result of one check.

    Attributes:
        name: What was checked.
        fit: Whether it is as expected.
        detail: What was found.
        advice: What to do if it is not as expected.
        fatal: Whether no run and no server can work if it is not as expected.
    """

    name: str
    fit: bool
    detail: str
    advice: str = ""
    fatal: bool = False


def _python(out: Path) -> MachineFinding:
    fit = sys.version_info[:2] == (3, 11)
    expected = "Expected 3.11, which the wheels of TFX need."
    return MachineFinding("Python", fit, platform.python_version(), expected, fatal=True)


def _packages(out: Path) -> MachineFinding:
    missing = []
    versions = []
    for name in _PACKAGES:
        distribution = next(iter(importlib.metadata.distributions(name=name)), None)
        if distribution is None:
            missing.append(name)
        else:
            versions.append(f"{name} {distribution.version}")
    text = f"missing: {', '.join(missing)}" if missing else ", ".join(versions)
    return MachineFinding(
        "packages", not missing, text, f"Install with: {install_command(*missing)}", fatal=True
    )


def _processor(out: Path) -> MachineFinding:
    from imgpipe.models.features.extractor import resolve_precision

    text = f"{processors()} cores, feature bank in {resolve_precision('auto')}"
    if has_gpu_driver():
        text += (
            "; a GPU is there, which TensorFlow uses if its CUDA libraries are installed: "
            f"{install_command('tensorflow[and-cuda]')}"
        )
    return MachineFinding("processor", True, text)


def has_gpu_driver() -> bool:
    """Return whether the driver of a GPU is loaded, without TensorFlow."""
    return any(driver.exists() for driver in _DRIVERS)


def _memory(out: Path) -> MachineFinding:
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in _CONTAINER_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            limits.append(int(file.read_text()))
    gib = min(limits) / _GIB
    needed = f"A run needs {_MEMORY_GIB:.0f} GiB."
    return MachineFinding("memory", gib >= _MEMORY_GIB, f"{gib:.1f} GiB", needed)


def _disk(out: Path) -> MachineFinding:
    folder = out.absolute()  # or the folder in which a run would create it
    while not os.path.exists(folder):  # noqa: PTH110  # `Path.exists` may raise
        folder = folder.parent
    gib = shutil.disk_usage(folder).free / _GIB
    writable = os.access(folder, os.W_OK)
    return MachineFinding(
        "disk",
        writable and gib >= _DISK_GIB,
        f"{gib:.1f} GiB free in {folder}" + ("" if writable else ", not writable"),
        f"A run needs {_DISK_GIB:.0f} GiB in a writable folder: --out OUT.",
        fatal=not writable or gib < _LEAST_DISK_GIB,
    )


def _backbones(out: Path) -> MachineFinding:
    return MachineFinding("backbones", True, installed_backbones())


def installed_backbones() -> str:
    """Name the backbones with installed weights, and say whether KerasHub is installed."""
    from imgpipe.models.backbones import presets, registry
    from imgpipe.models.backbones.published_presets import published

    packages = registry.packaged_weights()
    installed = [name for name, package in packages.items() if package.installed]
    names = ", ".join(installed) or "none with weights"
    version = presets.installed()
    if not version:
        return f"{names}; KerasHub is not installed (optional: the extra hub)"
    count = len(published())
    return f"{names}; keras-hub {version} with {count} presets: imgpipe doctor --presets"


#: Each check takes the output folder, like `output_folder.CHECKS`, although most do not need it.
CHECKS: tuple[Callable[[Path], MachineFinding], ...] = (
    _python,
    _packages,
    _processor,
    _memory,
    _disk,
    _backbones,
)
