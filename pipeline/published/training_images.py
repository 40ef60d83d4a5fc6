"""Prepares the training images of a version for ``imgpipe serve --nearest``.

The features of the bank and small copies of the images are written into one file in the folder of
the run that published the version, where the next start of the server finds it.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imgpipe.models import feature_names as names
from imgpipe.models.errors import ResourceError
from imgpipe.models.files.array_archive import DAMAGED
from imgpipe.pipeline.command_line import output_files

FILE = "training_images.npz"
_ARRAYS = ("version", "features", "labels", "paths", "images", "ends")
#: Largest number of training images; of more, some are taken evenly.
LIMIT = 2000
_SIDE, _QUALITY = 112, 75  # longer side in pixels of the small copies, and quality of their JPEG
_COMPARED = 3  # images whose features are compared with those that the version computes
_ALIKE = 0.99  # smallest cosine between the two


def prepare(out: Path, version: Path) -> Path:
    """Write the file for a version, unless it is there; after a rollback, it is written again.

    Args:
        out: Output folder of the runs.
        version: Folder of the version.

    Returns:
        Path of the file.

    Raises:
        ResourceError: There is no run that published the version, its artifacts are gone, the bank
            does not hold the features that the version computes, or the file cannot be written.
    """
    from imgpipe.pipeline.output import past_runs

    if not version.name.isdecimal():
        raise ResourceError(f"--nearest: {version} is not a version that a run published.")
    runs = past_runs.publishers(past_runs.read(out), past_runs.plain(version))
    if not runs:
        number = past_runs.pushed_as(version)
        raise ResourceError(f"--nearest: no run in {out} published version {number}.")
    run = runs[-1]
    file = run.folder / FILE
    if _version_of(file) != int(version.name):
        bank = run.artifact("FeatureBank", "features")
        examples = run.artifact("ImageFilter", "examples")
        again = "Run the pipeline again, or serve without --nearest."
        if not (bank and examples):
            raise ResourceError(f"--nearest: run {run.name} did not record its artifacts. {again}")
        if not (Path(bank).is_dir() and Path(examples).is_dir()):
            raise ResourceError(f"--nearest: the artifacts of run {run.name} were removed. {again}")
        _write(file, version, bank, examples)
    return file


def _version_of(file: Path) -> int | None:
    """Return the version that a file was written for, None if a part of it cannot be read."""
    import numpy as np

    try:
        # numpy does not close a file that it opened itself and cannot read.
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            # All are read, because each has a checksum of its own.
            return int({name: arrays[name] for name in _ARRAYS}["version"])
    except DAMAGED:
        return None


def _write(file: Path, version: Path, bank_uri: str, examples: str) -> None:
    import numpy as np

    from imgpipe.components.report.neighbours import unit
    from imgpipe.models.features import bank

    if not bank.read_dim(bank_uri):
        raise ResourceError(
            "--nearest: the bank holds no features, because all layers are trained."
        )
    rows = bank.read_table(bank_uri, names.TRAIN, 1 << 30, 0)
    # Rows are sorted by content hash, so evenly spaced ones are a random sample of the images.
    some = np.arange(0, len(rows), max(1, -(-len(rows) // LIMIT)))
    features, hashes = unit(rows.gather(some)), [digest.decode() for digest in rows.hashes[some]]
    seen = _images(examples, set(hashes))
    kept = [i for i, digest in enumerate(hashes) if digest in seen]
    found = [seen[hashes[i]] for i in kept]
    if not found:
        raise ResourceError("--nearest: the run has no training image that can be shown.")
    compared = [
        (one["data"], features[i]) for one, i in zip(found, kept, strict=True) if one["data"]
    ]
    _require_alike(version, [data for data, _ in compared], np.stack([row for _, row in compared]))
    out = io.BytesIO()
    np.savez(
        out,
        version=int(version.name),
        features=features[kept].astype(np.float16),  # half the size of float32
        labels=np.array([one["label"] for one in found]),
        paths=np.array([one["path"] for one in found]),
        # One array of all bytes and the end of each image: npz has no arrays of unequal rows.
        images=np.frombuffer(b"".join(one["small"] for one in found), np.uint8),
        ends=np.cumsum([len(one["small"]) for one in found]),
    )
    output_files.write(file, out.getvalue())


def _images(examples: str, wanted: set[str]) -> dict[str, Mapping[str, Any]]:
    """Read label, path, small copy and, of the first ones, the content of images by hash."""
    from imgpipe.components.report.thumbnails import shrunk
    from imgpipe.components.storage import records

    found: dict[str, Mapping[str, Any]] = {}
    for example in records.iterate(examples, names.TRAIN):
        digest = records.text(example, names.IMAGE_HASH)
        if digest not in wanted or digest in found:
            continue
        data = records.raw(example, names.IMAGE_BYTES)
        if small := shrunk(data, _SIDE, _QUALITY):
            path = os.fsencode(records.text(example, names.PATH)).decode("utf-8", "replace")
            label = records.text(example, names.LABEL)
            kept = data if len(found) < _COMPARED else b""
            found[digest] = {"label": label, "path": path, "small": small, "data": kept}
    return found


def _require_alike(version: Path, images: list[bytes], expected: Any) -> None:
    """Raise ResourceError if the version computes other features than those of the bank.

    That is so for a version whose backbone was trained further, because the bank holds the
    features of the pretrained one.
    """
    import numpy as np

    from imgpipe.components.report.neighbours import unit
    from imgpipe.models.export.served_model import Served
    from imgpipe.models.export.signatures import FEATURE_VECTORS

    with contextlib.closing(Served(str(version), FEATURE_VECTORS)) as served:
        (computed,) = served.run(image_bytes=np.array(images, object)).values()
    if computed.shape != expected.shape or (unit(computed) * expected).sum(axis=1).min() < _ALIKE:
        raise ResourceError(
            f"--nearest: version {version.name} computes other features than those that its run "
            "stored, because more layers than the head were trained. Serve without --nearest."
        )
