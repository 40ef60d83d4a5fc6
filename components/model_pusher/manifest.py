"""The push manifest: what a version directory holds, who made it, and what it was judged by.

The Pusher writes it, Baseline, rollback and the command line read it. It needs neither TFX nor
TensorFlow: the command line looks at versions before anything heavy is imported.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
#: Beside the SavedModel in a version directory; TensorFlow Serving ignores it.
PROVENANCE = "provenance"
#: Of the export; says what the model is where two exports of it differ in their bytes.
MODEL_DIGEST = "assets.extra/model_digest.json"
#: LiteRT files, and what tells how they were made of that model.
LITE_SUFFIX = ".tflite"
LITE_DIGEST = "assets.extra/lite_digest.json"
#: Differ between exports without any meaning for what is served.
_INCIDENTAL = ("fingerprint.pb", f"{PROVENANCE}/", "assets.extra/lite")
_CHUNK = 1 << 20  # bytes


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def describe(directory: Path) -> dict[str, dict[str, Any]]:
    """``{relative path: {"sha256": hex, "bytes": int}}`` of every file but the manifest."""
    return {
        path.relative_to(directory).as_posix(): {
            "sha256": sha256(path),
            "bytes": path.stat().st_size,
        }
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path != directory / MANIFEST
    }


def identity(files: Mapping[str, Mapping[str, Any]]) -> str:
    """Address of what `files` (as of `describe`) serve: the model, and its LiteRT files if any."""
    model = model_identity(files)
    if LITE_DIGEST not in files:
        return model
    return hashlib.sha256(f"{model} {files[LITE_DIGEST]['sha256']}".encode()).hexdigest()


def model_identity(files: Mapping[str, Mapping[str, Any]]) -> str:
    """Address of the model alone, whatever else was made of it."""
    if MODEL_DIGEST in files:
        return str(files[MODEL_DIGEST]["sha256"])
    kept = [
        (name, files[name]["sha256"])
        for name in sorted(files)
        if not name.startswith(_INCIDENTAL) and not name.endswith(LITE_SUFFIX)
    ]
    return hashlib.sha256(json.dumps(kept).encode()).hexdigest()


@dataclass(frozen=True)
class Version:
    """One pushed version."""

    number: int
    path: Path
    manifest: dict[str, Any]

    @property
    def run_key(self) -> str:
        """Address of the run (configuration, data, source code) that made the content."""
        return str(self.manifest.get("run_key", ""))

    @property
    def vocabulary(self) -> list[str]:
        """Class names, in the order of the probabilities."""
        return list(self.manifest.get("vocabulary", []))

    @property
    def identity(self) -> str:
        """Address of what is served, the same under every number it is published."""
        return identity(self.manifest["files"])

    @property
    def model_identity(self) -> str:
        """Address of the model alone, whatever LiteRT files are beside it."""
        return model_identity(self.manifest["files"])

    @property
    def withdrawn(self) -> list[str]:
        """What a rollback took back, as identities; neither pushed again nor compared with."""
        return list(self.manifest.get("withdrawn", []))

    @property
    def digest(self) -> str:
        """Address of the version: number and content."""
        text = json.dumps([self.number, self.manifest.get("files", {})], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def version_numbers(base: Path) -> list[int]:
    """Numbers of all directories below `base` that are named as we name them, ascending."""
    if not base.is_dir():
        return []
    names = [child.name for child in base.iterdir() if child.name.isdecimal()]
    return sorted(int(name) for name in names if str(int(name)) == name)


def damage(path: Path, *, complete: bool = False) -> str:
    """Compare a version directory with its manifest.

    Args:
      path: the version directory.
      complete: whether every file is read. Otherwise only those are that were changed after the
        manifest, the last file of a publication, was written.

    Returns:
      What is wrong, as a sentence without its full stop; "" when the version is whole.
    """
    try:
        files = json.loads((path / MANIFEST).read_text(encoding="utf-8"))["files"]
        written = (path / MANIFEST).stat().st_ctime_ns
        for name, facts in files.items():
            stat = (path / name).stat()
            if stat.st_size != facts["bytes"]:
                return f"{name} has {stat.st_size} bytes, expected {facts['bytes']}"
            changed = complete or stat.st_ctime_ns > written
            if changed and sha256(path / name) != facts["sha256"]:
                return f"{name} has changed since it was pushed"
    except FileNotFoundError as error:
        return f"{Path(error.filename).relative_to(path)} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"its {MANIFEST} cannot be compared ({type(error).__name__}: {error})"
    return ""


def versions(base: Path) -> Iterator[Version]:
    """Versions whose files are those of their manifest (see `damage`), newest first."""
    for number in reversed(version_numbers(base)):
        path = base / str(number)
        if not damage(path):
            manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
            yield Version(number, path, manifest)


def latest(base: Path) -> Version | None:
    """The newest whole version, or None."""
    return next(versions(base), None)


def withdrawn(base: Path) -> list[str]:
    """What rollbacks took back, as identities, from the newest manifest that can be read.

    It is believed also where another file of its version is damaged: a rollback holds.
    """
    for number in reversed(version_numbers(base)):
        try:
            manifest = json.loads((base / str(number) / MANIFEST).read_text(encoding="utf-8"))
            return Version(number, base / str(number), manifest).withdrawn
        except (OSError, ValueError, TypeError, AttributeError):
            continue
    return []


def baseline_for(base: Path, run_key: str) -> Version | None:
    """The version a run with `run_key` is compared with.

    It is the newest one that another run made and that was not withdrawn: a run repeated without
    changes then meets the same baseline as the first time, and its cached evaluation stays right.
    """
    back = set(withdrawn(base))
    others = (v for v in versions(base) if v.run_key != run_key and v.identity not in back)
    return next(others, None)
