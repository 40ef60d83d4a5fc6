"""Writes the least certain images into a new folder, where people can label them."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from imgpipe.components.image_file.header import probe
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.pipeline.request_drift.images import fetch
from imgpipe.pipeline.request_drift.log import Answer, Model
from imgpipe.pipeline.request_drift.survey import Uncertain

INDEX = "index.csv"
COLUMNS = (
    *("file", "label", "probability", "second", "second_probability"),
    *("answer", "version", "time"),
)
_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "GIF": ".gif", "BMP": ".bmp", "WEBP": ".webp"}
_LABEL_LENGTH = 60  # characters of a label that are used in a file name


def check_new(folder: Path) -> None:
    """Check that a folder can be created, because existing files are never overwritten.

    Raises:
        ConfigError: The folder exists, or its parent does not.
    """
    if folder.exists() or folder.is_symlink():
        raise ConfigError(f"--images {folder} exists already; name a new folder.")
    if not folder.absolute().parent.is_dir():
        raise ConfigError(f"--images {folder}: the folder above it does not exist.")


@contextlib.contextmanager
def _folder_for(target: Path) -> Iterator[Path]:
    """Create a folder that is renamed to `target` at the end, or removed after an error."""
    # In the same folder, because a rename is atomic only within one file system.
    beside = target.with_name(f".tmp-{target.name}-{uuid.uuid4().hex[:8]}")
    try:
        beside.mkdir()
        yield beside
        check_new(target)  # again, since reading the log takes a while
        beside.rename(target)
    except OSError as error:
        raise ResourceError(f"cannot write --images {target}: {error.strerror}.") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def file_name(rank: int, found: Uncertain, image: bytes) -> str:
    """File name of an image with its rank, label and probability: ``007-rock-0.413.jpg``."""
    label = re.sub(r"[^\w.-]", "_", found.label)[:_LABEL_LENGTH]
    suffix = _SUFFIXES.get(probe(image, 0).format, ".bin")
    return f"{rank:03d}-{label}-{found.probability:.3f}{suffix}"


def save(
    target: Path,
    files: Sequence[Path],
    model: Model,
    ranking: Sequence[Uncertain],
) -> int:
    """Write images and their index into a new folder.

    Args:
        target: Path of the folder, which must not exist.
        files: Files of the log.
        model: Model that answered.
        ranking: The images, the least certain first. Those that the server has removed from the log
            are left out.

    Returns:
        The number of images written.

    Raises:
        ConfigError: The folder exists.
        ResourceError: The folder cannot be written.
    """
    ranks = {found.location: rank for rank, found in enumerate(ranking)}
    written: dict[int, tuple[str, Answer]] = {}
    with _folder_for(target) as folder:
        for answer in fetch(files, model, ranks):
            rank = ranks[answer.location]
            image = answer.image or b""
            name = file_name(rank, ranking[rank], image)
            (folder / name).write_bytes(image)
            # Only the index needs the answer; with the images, all of them would stay in memory.
            written[rank] = (name, dataclasses.replace(answer, image=None))
        write_index(folder, ranking, written)
    return len(written)


def write_index(
    folder: Path, ranking: Sequence[Uncertain], images: Mapping[int, tuple[str, Answer]]
) -> None:
    """Write the table of the images, one row for each image that was fetched."""
    with (folder / INDEX).open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(COLUMNS)
        for rank, (name, answer) in sorted(images.items()):
            found = ranking[rank]
            when = datetime.fromtimestamp(found.time, UTC).isoformat()
            figures = (f"{found.probability:.4f}", found.second, f"{found.second_probability:.4f}")
            out.writerow((name, found.label, *figures, answer.label, found.version, when))
