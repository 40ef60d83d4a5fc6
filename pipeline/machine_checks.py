"""Checks whether this machine can run the pipeline, for `imgpipe doctor`."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from imgpipe.models.errors import ResourceError
from imgpipe.models.finding import Finding, make_finding
from imgpipe.models.machine import system
from imgpipe.models.machine.system import install_command

_GIB = 1 << 30
_DISK_GIB = 2.0  # about the disk space of a run on 10,000 images
_LEAST_DISK_GIB = 0.2  # below it, a run on a few images fails as well
_MEMORY_GIB = 4.0  # peak of a run on 1,240 images is under 3
_PYTHONS = ((3, 11), (3, 12), (3, 13))
_PACKAGES = ("tensorflow", "keras", "tfx", "apache-beam", "tensorflow-model-analysis", "grpcio")


def _finding(
    name: str, detail: str, fit: bool = True, advice: str = "", fatal: bool = False
) -> Finding:
    """Return what was found of a part of the machine, and what to do where it is not fit."""
    remedies = [advice] if advice and not fit else []
    return make_finding(name.lower(), detail, remedies, name, decides=fatal and not fit)


def _python() -> Finding:
    fit = sys.version_info[:2] in _PYTHONS
    expected = "Expected 3.11, 3.12 or 3.13, for which TFX has packages."
    return _finding("Python", platform.python_version(), fit, expected, fatal=True)


def _system() -> Finding:
    """Say whether TFX has packages for the system, and whether imgpipe was tried there."""
    kind = (system.name(), system.architecture())
    text = " ".join(kind)
    if kind == ("Darwin", "arm64"):
        return _finding("system", f"{text}; imgpipe was not yet tried on a Mac by us")
    advice = (
        "Expected Linux on x86-64, or a Mac with Apple silicon: TFX has no packages for other "
        "systems. On Windows, use WSL."
    )
    return _finding("system", text, kind == ("Linux", "x86_64"), advice)


def _packages() -> Finding:
    missing = []
    versions = []
    for name in _PACKAGES:
        distribution = next(iter(importlib.metadata.distributions(name=name)), None)
        if distribution is None:
            missing.append(name)
        else:
            versions.append(f"{name} {distribution.version}")
    text = f"missing: {', '.join(missing)}" if missing else ", ".join(versions)
    advice = "docs/install.md says how imgpipe is installed on this system."
    return _finding("packages", text, not missing, advice, fatal=True)


def _processor() -> Finding:
    from imgpipe.models.features.extractor import resolve_precision

    text = f"{system.processors()} cores, feature bank in {resolve_precision('auto')}"
    if system.has_gpu_device():
        text += (
            "; a GPU is there, which TensorFlow uses if its CUDA libraries are installed: "
            f"{install_command('tensorflow[and-cuda]')}"
        )
    return _finding("processor", text)


def _memory() -> Finding:
    gib = system.memory() / _GIB
    needed = f"A run needs {_MEMORY_GIB:.0f} GiB."
    return _finding("memory", f"{gib:.1f} GiB", gib >= _MEMORY_GIB, needed)


def _disk() -> Finding:
    folder = Path.cwd()
    gib = shutil.disk_usage(folder).free / _GIB
    writable = os.access(folder, os.W_OK)
    return _finding(
        "disk",
        f"{gib:.1f} GiB free in {folder}" + ("" if writable else ", not writable"),
        writable and gib >= _DISK_GIB,
        f"A run needs {_DISK_GIB:.0f} GiB in a writable folder: --out OUT.",
        fatal=not writable or gib < _LEAST_DISK_GIB,
    )


def _weights() -> Finding:
    """Check the weights of the default backbone, and list the packages of others."""
    from imgpipe.models.backbones import registry
    from imgpipe.models.settings.model import NetworkSettings

    packages = registry.packaged_weights()
    missing = [package.distribution for package in packages.values() if not package.installed]
    optional = f"; not installed: {', '.join(missing)} (optional)" if missing else ""
    default = packages[NetworkSettings().backbone]
    try:
        default.content()
    except ResourceError as error:
        return _finding("weights", str(error), False, fatal=True)
    return _finding("weights", f"{default.distribution} is intact{optional}")


def _backbones() -> Finding:
    return _finding("backbones", installed_backbones())


def installed_backbones() -> str:
    """Name the backbones with installed weights, and say whether KerasHub is installed."""
    from imgpipe.models.backbones import presets, registry

    packages = registry.packaged_weights()
    installed = [name for name, package in packages.items() if package.installed]
    names = ", ".join(installed) or "none with weights"
    version = presets.installed()
    if not version:
        return f"{names}; KerasHub is not installed (optional: the extra hub)"
    return f"{names}; keras-hub {version}"


CHECKS: tuple[Callable[[], Finding], ...] = (
    _python,
    _system,
    _packages,
    _processor,
    _memory,
    _disk,
    _backbones,
    _weights,
)
