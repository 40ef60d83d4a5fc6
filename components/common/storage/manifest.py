"""The files that lie beside a published model: its manifest, and the images it has learned from.

ModelPusher stores the list beside the model, so that two models are compared on images that neither
was trained on, and new images are told from known ones.

ModelPusher writes it; ImageEvaluator, the rollback and the command line read it. This module
imports neither TFX nor TensorFlow, because the command line reads versions before heavy imports.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from imgpipe.models import names
from imgpipe.models.files import described_files, json_object
from imgpipe.models.files.described_files import MANIFEST, MODEL_DIGEST, SAVED_MODEL, version_damage

#: Layout of an output folder: the number of what a run leaves in its own folder, in artifacts and
#: caches, beside the accepted data and beside a version. It rises where a file can no longer be
#: read.
LAYOUT: Final = 12
KNOWN_IMAGES = "images.txt"
#: Folder in the provenance of a version with the predictions of the run that published it: its
#: answers for the held-out images of that run.
ANSWERS_FOLDER = "answers"
#: Hexadecimal digits of a content hash that are kept: two of a million images share them with a
#: probability of 1 in 37 million.
_DIGITS = 16
#: Folder of statistics and schema in a version directory; TensorFlow Serving ignores it.
PROVENANCE = "provenance"
#: Files that can differ between exports although the same model is served.
_INCIDENTAL = ("fingerprint.pb", f"{PROVENANCE}/")
#: Files, and folders of files, from which a server or Keras computes answers.
_ANSWERING = (SAVED_MODEL, "variables/", "assets/", MODEL_DIGEST, "assets.extra/network/")
#: Files with which the answers to other images, and the next version, are compared. All others
#: describe the model or hold images, so that they may be changed or deleted.
_COMPARING = (names.OUT_OF_FOLD_FILE, names.DISTRIBUTION_FILE)


def known_images_text(split_of: Mapping[str, str]) -> str:
    """List images by their content hashes: a line for each with its short hash and split."""
    return "".join(sorted(f"{short_hash(key)} {split}\n" for key, split in split_of.items()))


def read_known_images(file: Path) -> Mapping[str, str] | None:
    """Return the split of each known image by its short hash; None for versions without a list."""
    if not file.is_file():
        return None
    # People may change the file; a line that is no digest fits no image.
    lines = (line.partition(" ") for line in file.read_text("ascii", "replace").splitlines())
    return {digits: split for digits, _, split in lines}


def short_hash(image_hash: str) -> str:
    """Shorten a content hash as the list has it."""
    return image_hash[:_DIGITS]


def describe(directory: Path) -> dict[str, dict[str, Any]]:
    """Describe every file below `directory` except the manifest; see `described_files`."""
    files = described_files.files_below(directory)
    files.pop(MANIFEST, None)
    return described_files.describe(files)


def is_guarded(name: str) -> bool:
    """Return whether a file has to stay as it was published, so that the manifest lists it.

    `name` is its path below the version directory.
    """
    return answers(name) or name in _COMPARING


def answers(name: str) -> bool:
    """Return whether answers are computed from a file, which `is_guarded` then.

    `name` is its path below the version directory.
    """
    return name.startswith(_ANSWERING)


def identity(files: Mapping[str, Mapping[str, Any]]) -> str:
    """Fingerprint of the model that a version serves, from its files as `describe` returns them."""
    if MODEL_DIGEST in files:
        return str(files[MODEL_DIGEST]["sha256"])
    kept = [
        (name, files[name]["sha256"]) for name in sorted(files) if not name.startswith(_INCIDENTAL)
    ]
    return hashlib.sha256(json.dumps(kept).encode()).hexdigest()


@dataclass(frozen=True)
class Version:
    """A published version.

    Attributes:
        folder: Its folder, which is named by its number.
        manifest: Its manifest.
    """

    folder: Path
    manifest: dict[str, Any]

    @property
    def number(self) -> int:
        """Its number."""
        return int(self.folder.name)

    @property
    def run_key(self) -> str:
        """Fingerprint of the run that made the model: its configuration, data and source code."""
        return str(self.manifest.get("run_key", ""))

    @property
    def vocabulary(self) -> list[str]:
        """Class names, in the order of the probabilities."""
        return list(self.manifest.get("vocabulary", []))

    def comparable(self, vocabulary: Sequence[str]) -> bool:
        """Whether this model and one with these classes have a choice of classes in common."""
        return len({*self.vocabulary} & {*vocabulary}) > 1

    @property
    def identity(self) -> str:
        """Fingerprint of what is served; see `identity`."""
        return identity(self.manifest["files"])

    def holds(self, number: int) -> bool:
        """Whether this is the model of another version, too."""
        other = intact(self.folder.parent, number)
        return other is not None and other.identity == self.identity

    @property
    def withdrawn(self) -> list[str]:
        """Identities that rollbacks withdrew, which are neither published again nor a baseline."""
        return list(self.manifest.get("withdrawn", []))

    @property
    def digest(self) -> str:
        """Fingerprint of the version's number and guarded files."""
        text = json.dumps([self.number, self.manifest.get("files", {})], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def version_numbers(base: Path) -> list[int]:
    """Numbers of all version directories below `base`, in ascending order."""
    if not base.is_dir():
        return []
    numbers = [child.name for child in base.iterdir() if child.name.isdecimal()]
    # A folder named 01 would be a second version 1.
    return sorted(int(number) for number in numbers if str(int(number)) == number)


def pushed_as(path: Path) -> int:
    """Return the number under which a run published the model of a version, also after rollbacks.

    Args:
        path: Folder of a version, which may be gone.
    """
    rolled_back = json_object.read_or_empty(path / MANIFEST).get("pushed_as")
    return rolled_back if isinstance(rolled_back, int) else int(path.name)


def readable(base: Path) -> Iterator[Version]:
    """Iterate over the versions whose manifest can be read, newest first, also over damaged ones.

    The contents of the manifests are not checked.
    """
    for number in reversed(version_numbers(base)):
        folder = base / str(number)
        with contextlib.suppress(OSError, ValueError):
            yield Version(folder, json_object.read(folder / MANIFEST))


def versions(base: Path) -> Iterator[Version]:
    """Iterate over the intact versions below `base`, newest first; see `version_damage`."""
    return (version for version in readable(base) if not version_damage(version.folder))


def intact(base: Path, number: int) -> Version | None:
    """Return the intact version of a number below `base`, or None; no other one is read whole."""
    chosen = (version for version in readable(base) if version.number == number)
    return next((version for version in chosen if not version_damage(version.folder)), None)


def latest(base: Path) -> Version | None:
    """Return the newest intact version below `base`, or None."""
    return next(versions(base), None)


def served(base: Path) -> Version | None:
    """Return the version of the highest number, which servers load; None if it is damaged."""
    newest = latest(base)
    return newest if newest and newest.number == max(version_numbers(base)) else None


def withdrawn(base: Path) -> list[str]:
    """Identities that rollbacks withdrew, from the newest manifest that can be read.

    The manifest counts even if another file of its version is damaged, so that a rollback is
    never forgotten.
    """
    for version in readable(base):
        with contextlib.suppress(TypeError):
            return version.withdrawn
    return []


def baseline_for(base: Path, run_key: str, vocabulary: Sequence[str] = ()) -> Version | None:
    """Return the version that a run is compared with, or None.

    It is the newest intact version that was made by another run and has not been withdrawn, and
    that has classes in common with this run if there is such a version. A run that is repeated
    without changes therefore has the same baseline, so that TFX can reuse the cached evaluation.

    Args:
        base: Base path of the published versions.
        run_key: Fingerprint of the run; see `Version.run_key`.
        vocabulary: Class names of the run.
    """
    excluded = set(withdrawn(base))
    newest = None
    for version in versions(base):
        if version.run_key != run_key and version.identity not in excluded:
            if version.comparable(vocabulary):
                return version
            newest = newest or version
    return newest


def why_no_baseline(base: Path) -> str:
    """Say that there is no version to compare with, and why those that are there do not count."""
    why = "there is no earlier blessed model to compare with"
    rollbacks = ["a rollback has withdrawn others"] if withdrawn(base) else []
    damages = {number: version_damage(base / str(number)) for number in version_numbers(base)}
    reasons = [f"version {number} is damaged: {what}" for number, what in damages.items() if what]
    reasons += rollbacks
    return f"{why} ({'; '.join(reasons)})" if reasons else why
