"""Which files are lists of images: by their names and their first two rows."""

from __future__ import annotations

from pathlib import Path

from imgpipe.components.common.image_file import file_names
from imgpipe.components.example_gen.notes import noted
from imgpipe.components.example_gen.settings import SourceOptions
from imgpipe.components.example_gen.sources import tables
from imgpipe.components.example_gen.sources.local_files import visible
from imgpipe.components.example_gen.sources.split_names import are_splits, split_of
from imgpipe.models.files.regular_files import open_regular
from imgpipe.models.finding import Finding

JSON_LINES = (".jsonl", ".ndjson")
TEXT = ".txt"
_TABLE = (".csv", ".tsv", TEXT)
_LISTS = (*_TABLE, *JSON_LINES)
_MIN_PIXELS = 4  # two by two
_MOST_TEXTS = 20  # text files beside a list that are looked into


def lists_files(locator: str, options: SourceOptions) -> bool:
    """Whether a plain path names a list of files: JSON Lines, or a table with a path column."""
    path = Path(locator).expanduser()
    if locator.lower().endswith(JSON_LINES):
        return True
    if not locator.lower().endswith(_TABLE) or not path.is_file():
        return False
    try:
        _, (titles, second) = tables.first_rows(open_regular(path))
    except OSError:
        return False
    if any(file_names.is_image(cell) for cell in (*titles, *second)):
        return True
    if locator.lower().endswith(TEXT):
        return False
    if options.image_column:
        return True
    # The names of pixels are numbered, and those of classes in one-hot columns are not.
    pixels = [title for title, cell in zip(titles, second, strict=False) if tables.is_number(cell)]
    has_pixels = sum(any(map(str.isdigit, title)) for title in pixels) >= _MIN_PIXELS
    return not has_pixels and any(tables.is_usual(title, "path") for title in titles)


def texts_of_images(folder: Path, but: Path | None = None) -> list[Finding]:
    """Note the text files in a folder that name images, `but` one: they may hold their splits."""
    files = sorted(file for file in visible(folder) if file.suffix.lower() == TEXT)
    detail = "names images: it may hold labels or splits"
    return [
        noted("unread_list", file.name, detail, remedies=[tables.GUIDE])
        for file in files[:_MOST_TEXTS]
        if file != but and lists_files(str(file), SourceOptions())
    ]


def lists_of_splits(folder: Path) -> dict[str, str]:
    """Return the lists of a folder that each hold one split, with the split; {} for none.

    Their names say it (train.csv, val.csv), or the folders say it that hold lists of one name.
    """
    inside = sorted(visible(folder))
    here = [file for file in inside if file.suffix.lower() in _LISTS and split_of(file.name)]
    if are_splits([file.name for file in here]):
        return {file.name: split_of(file.name) or "" for file in here}
    below = [file for inner in inside for file in visible(inner) if file.suffix.lower() in _LISTS]
    parents = [file.parent.name for file in below]
    if are_splits(parents) and len({file.name for file in below}) == 1:
        return {f"{name}/{below[0].name}": split_of(name) or "" for name in parents}
    return {}
