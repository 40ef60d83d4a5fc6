"""The names of the files of a version, and the digests that describe the files of a folder.

The manifests of published versions hold such descriptions.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from imgpipe.models.files import json_object
from imgpipe.models.files.regular_files import sha256

#: The graph, without which no server loads a version.
SAVED_MODEL: Final = "saved_model.pb"
#: Folder of the SavedModel in TFX's artifact of a model, as `tfx.utils.path_utils` names it.
SAVED_MODEL_FOLDER: Final = "Format-Serving"
#: Class names, one a line, in label order.
VOCABULARY: Final = "assets/vocabulary.txt"
#: Hash of the model's content, and facts about its signatures. It identifies the model, even if two
#: exports of it differ in their bytes.
MODEL_DIGEST: Final = "assets.extra/model_digest.json"
#: The files of a published version that answer, with digests. Publishing writes it last.
MANIFEST: Final = "manifest.json"
#: Signature of a model that takes encoded images.
SERVING_DEFAULT: Final = "serving_default"
#: Signature that returns the features of encoded images.
FEATURE_VECTORS: Final = "features"
#: Output: whether an image is unlike all that the model has learned, bool [N].
UNLIKE: Final = "unlike"


#: Size and SHA-256 of each file, by its path below the folder.
DescribedFiles = Mapping[str, Mapping[str, Any]]
#: Which files are read to compare their digests: all, those that were changed after they were
#: described, or none. The sizes of all files are compared.
Reading: TypeAlias = Literal["all", "changed", "none"]


def files_below(folder: Path) -> dict[str, Path]:
    """Every file below a folder, sorted, by its relative path."""
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def describe(paths: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Describe files, given by name, as `{name: {"sha256": hex, "bytes": int}}`."""
    return {
        name: {"sha256": sha256(path), "bytes": path.stat().st_size} for name, path in paths.items()
    }


def _difference(folder: Path, files: DescribedFiles, described: int, reading: Reading) -> str:
    """Compare the files of a folder with their description.

    Args:
        folder: The folder.
        files: Description of its files.
        described: Time of the description in nanoseconds. It is compared with the time of a change
            (ctime), which programs cannot set, as `cp -p` and others set that of a modification.
        reading: Which files are read.

    Returns:
        The first difference, as a sentence without its full stop; "" if there is none.

    Raises:
        OSError: The disk fails.
        ValueError, KeyError, TypeError, AttributeError: The description is damaged.
    """
    try:
        for name, facts in files.items():
            if Path(name).is_absolute() or ".." in Path(name).parts:
                return f"{name!r} leads out of the folder"
            if not isinstance(facts["sha256"], str):
                return f"there is no digest of {name}"
            stat = (folder / name).stat()
            if stat.st_size != facts["bytes"]:
                return f"{name} has {stat.st_size} bytes, expected {facts['bytes']}"
            changed = reading == "changed" and stat.st_ctime_ns > described
            if (reading == "all" or changed) and sha256(folder / name) != facts["sha256"].lower():
                return f"{name} has changed since it was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).relative_to(folder)} is missing"
    except PermissionError as error:
        return f"this user may not read {Path(error.filename).relative_to(folder)}"
    return ""


def version_damage(path: Path, reading: Reading = "changed") -> str:
    """Compare the files of a published version with its manifest.

    Args:
        path: Version directory.
        reading: Which files are read; the manifest is written last.

    Returns:
        What is wrong, as a sentence without its full stop; "" when the version is intact.
    """
    file = path / MANIFEST
    try:
        files = json_object.read(file)["files"]
        return _difference(path, files, file.stat().st_ctime_ns, reading)
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"its {MANIFEST} cannot be compared ({type(error).__name__}: {error})"
