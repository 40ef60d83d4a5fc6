"""The formatting of numbers on the page; "–" stands for an unknown value."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

NONE = "–"
SERVED_NAME = "imgpipe"  # default of run.name, and of --model of `imgpipe serve`
_VERSIONS = "model"  # default of push.directory
_Item = TypeVar("_Item")


def count(value: Any) -> str:
    """Format a whole number with thousands separators: ``12,400``."""
    return NONE if value is None else f"{int(value):,}"


def share(value: Any) -> str:
    """Format a share or a metric with three decimal places: ``0.953``."""
    return NONE if value is None else f"{float(value):.3f}"


def seconds(value: Any) -> str:
    """Format a duration: ``0.4 s``, ``12.3 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if value is None:
        return NONE
    value = float(value)
    if value < 59.95:  # more would be shown as 60.0 s
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def plural(number: int, singular: str, many: str = "") -> str:
    """Format a number and its noun: ``1 image``, ``1,240 images``."""
    return f"{number:,} {singular if number == 1 else many or singular + 's'}"


def moves(moved: Mapping[str, int]) -> list[str]:
    """Describe the images that are in another split than the one drawn, one clause per reason.

    Args:
        moved: Number of images by reason, as the quarantine's summary counts them.
    """
    why = {
        "near_duplicates_together": "moved, so that near-duplicates and groups stay in one split",
        "class_minimum": "moved to another split, so that each class has enough images there",
    }
    return [
        f"{plural(number, 'image was', 'images were')} {why[reason]}"
        for reason, number in moved.items()
        if number and reason in why
    ]


def aside(counts: Mapping[str, int]) -> list[str]:
    """Describe the training images that are not trained on, one clause per held-out split.

    Args:
        counts: Number of training images by the split of the images that they are similar to.
    """
    return [
        f"{plural(number, 'image')} of train {'is' if number == 1 else 'are'} set aside, because "
        f"{'it is a near-duplicate' if number == 1 else 'they are near-duplicates'} of {split}"
        for split, number in counts.items()
        if number
    ]


def converted(data: Mapping[str, Any]) -> list[str]:
    """Say how many images clients have to convert for the served model; nothing if there are none.

    Args:
        data: The quarantine's summary.
    """
    formats = data.get("transcoded") or {}
    total = sum(formats.values())
    if not total:
        return []
    files = "is in a file" if total == 1 else "are in files"
    kinds = ", ".join(f"{number:,} {name}" for name, number in formats.items())
    return [
        f"{total:,} of {plural(data['kept'], 'image')} {files} that the served model cannot decode "
        f"({kinds}); its clients must convert such files to PNG or JPEG, as `imgpipe predict "
        "--model` and `imgpipe.load` do by themselves"
    ]


def overridden(data: Mapping[str, Any]) -> str:
    """Count the overrides: ``overrides were applied to 2 images (1 accept, 1 reject)``.

    Args:
        data: The quarantine's summary.

    Returns:
        Clauses without a full stop, also about labels of test that were not overridden; "" when
        there is nothing to say.
    """
    from imgpipe.components.image_filter.quarantine import NOT_RELABELLED

    found = data.get("overrides") or {}
    applied, by_split = dict(found.get("applied") or {}), found.get("relabelled") or {}
    kept, clauses = applied.pop(NOT_RELABELLED, 0), []
    if total := sum(applied.values()):
        parts = [f"{number:,} {verdict}" for verdict, number in applied.items()]
        images = plural(total, "image")
        clauses.append(f"overrides were applied to {images} ({', '.join(parts)})")
    if total := sum(by_split.values()):
        parts = [f"{number:,} of {split}" for split, number in by_split.items() if number]
        labels = plural(total, "label was", "labels were")
        clauses.append(f"{labels} overridden ({', '.join(parts)})")
    if kept:
        images = plural(kept, "test image was", "test images were")
        clauses.append(f"{images} not relabelled, because overrides change no label of test")
    return "; ".join(clauses)


def serve_command(version: str, model: str) -> str:
    """Return the command that serves a published version and those after it.

    Args:
        version: Path or URI of the version, such as ``OUT/model/3``. The command names ``OUT``
            where the versions lie in its usual folder on this machine.
        model: Name of the model in requests, as in `run.name`.
    """
    base = version.rstrip("/").rpartition("/")[0] or version
    above, _, name = base.rpartition("/")
    folder = above if above and name == _VERSIONS and "://" not in base else base
    named = "" if model == SERVED_NAME else f" --model {shlex.quote(model)}"
    return f"imgpipe serve {shlex.quote(folder)}{named}"


def capped(rows: Sequence[_Item], limit: int) -> tuple[Sequence[_Item], str]:
    """Shorten a table of classes.

    Returns:
        The first `limit` rows, and a sentence about those that are left out; "" if none is.
    """
    if len(rows) <= limit:
        return rows, ""
    return rows[:limit], f"{limit:,} of {len(rows):,} classes are shown; the JSON file has all."


FILTERS: dict[str, Callable[..., str]] = {
    function.__name__: function for function in (count, share, seconds, plural)
}
