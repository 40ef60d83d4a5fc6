"""Checks whether this machine can run the pipeline, for ``imgpipe doctor``."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import runpy
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_GIB = 1 << 30
_DISK_GIB = 2.0  # about the disk space of a run on 10,000 images
_LEAST_DISK_GIB = 0.2  # below it, a run on a few images fails as well
_MEMORY_GIB = 4.0  # peak of a run on 1,240 images is under 3
#: Limits of a container's memory in bytes, of both versions of control groups.
_CONTAINER_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_DRIVER = Path("/proc/driver/nvidia/version")  # exists where the driver of a GPU is loaded
_WINDOWS_GPU = Path("/dev/dxg")  # the same on Windows' subsystem for Linux
_ASK_TENSORFLOW = (
    "import tensorflow as tf\n"
    "for gpu in tf.config.list_physical_devices('GPU'):\n"
    "    details = tf.config.experimental.get_device_details(gpu)\n"
    "    print('GPU', details.get('device_name', gpu.name))"
)
_ASK_S = 120  # seconds; importing TensorFlow takes several, and more without bytecode
_PORT = 8500  # the default port of TensorFlow Serving
_PACKAGES = ("tensorflow", "keras", "tfx", "apache-beam", "tensorflow-model-analysis", "grpcio")


@dataclass(frozen=True)
class Finding:
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


def _python(out: Path) -> Finding:
    fit = sys.version_info[:2] == (3, 11)
    return Finding(
        "Python",
        fit,
        platform.python_version(),
        "Expected 3.11, which the wheels of TFX need.",
        fatal=True,
    )


def _packages(out: Path) -> Finding:
    found = _installed(*_PACKAGES)
    missing = [name for name in _PACKAGES if name not in found]
    text = f"missing: {', '.join(missing)}" if missing else _listed(found)
    return Finding("packages", not missing, text, "Install with: uv sync --frozen", fatal=True)


def _installed(*names: str) -> dict[str, str]:
    """Return the versions of the packages of these names that are installed."""
    return {
        name: importlib.metadata.version(name)
        for name in names
        if any(importlib.metadata.distributions(name=name))
    }


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _imgpipe(out: Path) -> Finding:
    """Compare the versions of imgpipe and imgpipe-client, which install the same files."""
    found = _installed("imgpipe", "imgpipe-client")
    return Finding(
        "imgpipe",
        len(set(found.values())) == 1,
        _listed(found) or "not installed",
        "Expected one version. Run: pip uninstall imgpipe-client, then install imgpipe again.",
        fatal=True,
    )


def _weights(out: Path) -> Finding:
    from imgpipe.models.backbones import registry

    packaged = [one for one in map(registry.architecture, registry.names()) if one.package]
    found = _installed(*(one.package for one in packaged))
    missing = [one.package for one in packaged if one.package not in found]
    text = f"{', '.join(missing)} is not installed"
    if not missing:
        text = ", ".join(f"{one.name} (package {found[one.package]})" for one in packaged)
    advice = "Install with: uv sync --frozen"
    return Finding("backbone weights", not missing, text, advice, fatal=True)


def _bytecode(out: Path) -> Finding:
    """Check for compiled bytecode, without which every start compiles TensorFlow and TFX."""
    spec = importlib.util.find_spec("tfx")
    origin = spec.origin if spec else None
    compiled = bool(origin) and Path(importlib.util.cache_from_source(str(origin))).exists()
    text = "compiled" if compiled else "not compiled, so every start takes some 15 s longer"
    return Finding("bytecode", compiled, text, "Run: uv sync --frozen --compile-bytecode")


def _cpu(out: Path) -> Finding:
    from imgpipe.models.features.extractor import resolve_precision

    cores = len(os.sched_getaffinity(0))  # `os.cpu_count` counts those of other processes too
    return Finding("processor", True, f"{cores} cores, feature bank in {resolve_precision('auto')}")


def has_gpu() -> bool:
    """Return whether the driver of a GPU is loaded, without TensorFlow."""
    return _DRIVER.exists() or _WINDOWS_GPU.exists()


def _accelerator(out: Path) -> Finding:
    """Say whether TensorFlow computes on a GPU. TensorFlow is asked only if a driver is loaded."""
    build = _tensorflow_build()
    if not has_gpu():
        return Finding("accelerator", True, f"none, so the processor computes; {build}")
    try:
        asked = subprocess.run(
            [sys.executable, "-c", _ASK_TENSORFLOW],
            capture_output=True,
            text=True,
            timeout=_ASK_S,
            check=False,  # a process that crashed has printed no GPU, and that is reported
        )
        lines = asked.stdout.splitlines()
    except subprocess.TimeoutExpired:
        lines = []
    gpus = [line.removeprefix("GPU ") for line in lines if line.startswith("GPU ")]
    if gpus:
        return Finding("accelerator", True, f"{', '.join(gpus)}; {build}")
    return Finding(
        "accelerator",
        False,
        f"this machine has a GPU, and TensorFlow does not find it; {build}",
        "The processor computes. For the GPU, install its CUDA libraries: "
        "uv pip install 'tensorflow[and-cuda]' (make installs uv as .tools/bin/uv)",
    )


def _tensorflow_build() -> str:
    """Describe the build of TensorFlow, without importing it."""
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or not spec.origin:
        return "TensorFlow is not installed"
    version = importlib.metadata.version("tensorflow")
    # Importing this file as a module would import all of TensorFlow first.
    file = Path(spec.origin).parent / "python" / "platform" / "build_info.py"
    build = runpy.run_path(str(file))["build_info"] if file.is_file() else {}
    cuda = build.get("cuda_version") if build.get("is_cuda_build") else None
    return f"TensorFlow {version} is built " + (f"for CUDA {cuda}" if cuda else "without CUDA")


def _memory(out: Path) -> Finding:
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in _CONTAINER_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            limits.append(int(file.read_text()))
    gib = min(limits) / _GIB
    return Finding(
        "memory", gib >= _MEMORY_GIB, f"{gib:.1f} GiB", f"A run needs {_MEMORY_GIB:.0f} GiB."
    )


def _disk(out: Path) -> Finding:
    folder = out.absolute()  # or the folder in which a run would create it
    while not os.path.exists(folder):  # noqa: PTH110  # `Path.exists` may raise
        folder = folder.parent
    gib = shutil.disk_usage(folder).free / _GIB
    writable = os.access(folder, os.W_OK)
    text = f"{gib:.1f} GiB free in {folder}" + ("" if writable else ", not writable")
    return Finding(
        "disk",
        writable and gib >= _DISK_GIB,
        text,
        f"A run needs {_DISK_GIB:.0f} GiB in a writable folder: --out OUT.",
        fatal=not writable or gib < _LEAST_DISK_GIB,
    )


def _port(out: Path) -> Finding:
    with socket.socket() as probe:
        busy = probe.connect_ex(("127.0.0.1", _PORT)) == 0
    text = f"{_PORT} is {'in use' if busy else 'free'}"
    return Finding("serving port", not busy, text, "Use another port: imgpipe serve --port N.")


#: Each check takes the output folder, like `output_folder.CHECKS`, although most do not need it.
CHECKS: tuple[Callable[[Path], Finding], ...] = (
    _python,
    _imgpipe,
    _packages,
    _weights,
    _bytecode,
    _cpu,
    _accelerator,
    _memory,
    _disk,
    _port,
)
