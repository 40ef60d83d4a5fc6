"""What a source holds and nothing used, in one line for terminal, pages, JSON and report."""

from __future__ import annotations

from collections.abc import Sequence

from imgpipe.components.common.formatting import plural
from imgpipe.components.common.ingest_summary import SourceNote

#: Kinds of notes about images that are not used, and how their paths are called.
_IMAGES = {"skipped_folder": "folder", "unlabelled_folder": "folder", "skipped_files": "files"}
_MOST = 4  # folders and columns that are named
_SHARE = 3  # a third of the images is much


def sentence(notes: Sequence[SourceNote]) -> str:
    """Say what was not used: "folder masks (400 images), column lesion_id".

    Args:
        notes: The notes of the source.

    Returns:
        A line without a full stop; "" where everything was used.
    """
    parts = []
    for note in notes:
        kind = note["kind"]
        if kind in _IMAGES:
            parts.append(f"{_IMAGES[kind]} {note['path']} ({plural(note['count'], 'image')})")
        elif kind == "folder_without_images":
            parts.append(f"folder {note['path']} ({plural(note['count'], 'file')}, no image)")
        elif kind == "unused_column":
            parts.append(f"column {note['path']}")
        elif kind == "unused_split":
            parts.append(f"split {note['path']}")
    more = [f"{len(parts) - _MOST} more"] if len(parts) > _MOST else []
    others = sum(note["count"] for note in notes if note["kind"] == "other_files")
    files = [plural(others, "file that is no image", "files that are no images")] if others else []
    return ", ".join([*parts[:_MOST], *more, *files])


def images(notes: Sequence[SourceNote]) -> int:
    """Return the number of images that are not used."""
    return sum(note["count"] for note in notes if note["kind"] in _IMAGES)


def is_much(used: int, left_out: int) -> bool:
    """Whether so many images were left out that the others do not stand for all of them.

    Args:
        used: Number of images that were read.
        left_out: Number of images that were not.
    """
    return left_out > 0 and _SHARE * left_out >= used + left_out
