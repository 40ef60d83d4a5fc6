"""What a source says of files, folders and columns that it does not read, so that nothing is lost.

A reader adds what it meets to `Notes`, which makes one finding of all that has one reason.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from imgpipe.components.common.formatting import plural
from imgpipe.models.finding import Example, Fate, Finding, in_files, make_finding, usual_ways

_UNPACK = "unpack archives into a folder each, and download what a cloud keeps; then run again"
_SHOWN = 4  # names that the sentence of a finding has
_EXAMPLES = 20  # of each finding


@dataclass(frozen=True)
class _Reason:
    """What a reason means for the files that it is about.

    Attributes:
        fate: What happens to them.
        single: What is counted, for one.
        several: The same, for several.
        decides: Whether somebody has to know of them, however few they are.
        ways: What to do.
    """

    fate: Fate
    single: str
    several: str
    decides: bool = False
    ways: Sequence[str] = ()


_REASONS: Final = {
    "hidden": _Reason("noted", "hidden file", "hidden files"),
    "hidden_file": _Reason(
        "left_out", "file whose name begins with a dot", "files whose names begin with a dot"
    ),
    "no_image": _Reason("left_out", "file that is no image", "files that are no images"),
    "beside_images": _Reason("not_used", "file beside images", "files beside images"),
    "may_hold_images": _Reason(
        "left_out",
        "file that may hold or stand for images",
        "files that may hold or stand for images",
        decides=True,
        ways=(_UNPACK,),
    ),
    "skipped": _Reason("left_out", "skipped file", "skipped files"),
    "unlabelled_split": _Reason(
        "left_out", "image of a split without labels", "images of a split without labels"
    ),
    "unlabelled_file": _Reason(
        "left_out", "image whose name has no label", "images whose names have no label"
    ),
    "unsafe_name": _Reason(
        "left_out", "file whose name leads elsewhere", "files whose names lead elsewhere"
    ),
    "special_file": _Reason("left_out", "link or device", "links or devices"),
    "outside_link": _Reason(
        "not_used",
        "link to another folder",
        "links to other folders",
        decides=True,
        ways=("if you trust where the links lead: --set data.follow_links=true",),
    ),
    "unreadable_folder": _Reason(
        "not_used",
        "folder that cannot be read",
        "folders that cannot be read",
        decides=True,
        ways=("make the folders readable for this user (chmod), and run again",),
    ),
    "repeated_link": _Reason(
        "noted", "link to a folder that is read already", "links to folders that are read already"
    ),
    "repeated_name": _Reason("noted", "object of a repeated name", "objects of a repeated name"),
    "no_group": _Reason(
        "noted", "image that data.group_pattern does not match", "images outside of groups"
    ),
    "empty_class": _Reason("noted", "class without an image", "classes without an image"),
    "listed_twice": _Reason("noted", "file that is listed twice", "files that are listed twice"),
    "empty_label": _Reason("noted", "row without a label", "rows without a label"),
    "unused_column": _Reason("not_used", "column", "columns"),
    "unused_split": _Reason("not_used", "split", "splits"),
    "unused_table": _Reason("not_used", "other table", "other tables"),
    "broken_log": _Reason("noted", "broken file", "broken files"),
    "skipped_records": _Reason("noted", "skipped record", "skipped records"),
    "answers_of_another_model": _Reason(
        "noted", "answer of another model", "answers of another model"
    ),
    "other_answers": _Reason("noted", "answer of another version", "answers of other versions"),
}


@dataclass
class _About:
    """All that was added with one reason."""

    count: int = 0
    shown: collections.Counter[str] = field(default_factory=collections.Counter)
    examples: list[Example] = field(default_factory=list)
    ways: list[Sequence[str]] = field(default_factory=list)


class Notes:
    """Collects what was not read. The order in which notes are added makes no difference."""

    def __init__(self) -> None:
        self._by_reason: dict[str, _About] = collections.defaultdict(_About)

    def add(
        self,
        reason: str,
        path: str,
        detail: str = "",
        count: int = 1,
        shown: str = "",
        ways: Sequence[str] = (),
    ) -> None:
        """Note a file, folder or column.

        Args:
            reason: One of the reasons of this module.
            path: Its path or name.
            detail: What was noticed; "" if the reason says all.
            count: Number of files for which it stands.
            shown: What the sentence names instead of the path, such as an ending.
            ways: What to do besides what the reason says, each a way of its own.
        """
        about = self._by_reason[reason]
        about.count += count
        about.shown[shown or path] += count
        about.examples.append({"path": path, "detail": detail, "image_hash": ""})
        if len(about.examples) > 2 * _EXAMPLES:  # the first by path stay
            about.examples = _first(about.examples)
        if ways:
            about.ways.append(ways)

    def count(self, reason: str) -> int:
        """Return the number of files that were noted with a reason."""
        return self._by_reason[reason].count if reason in self._by_reason else 0

    def findings(self) -> tuple[Finding, ...]:
        """Return one finding for each reason, in the order of their names."""
        return tuple(
            _finding(reason, self._by_reason[reason]) for reason in sorted(self._by_reason)
        )


def _first(examples: Sequence[Example]) -> list[Example]:
    return sorted(examples, key=lambda example: (example["path"], example["detail"]))[:_EXAMPLES]


def _finding(reason: str, about: _About) -> Finding:
    """Return the finding about all files with one reason."""
    kind = _REASONS[reason]
    title = kind.single if about.count == 1 else kind.several
    counted = plural(about.count, kind.single, kind.several)
    most = sorted(about.shown.items(), key=lambda entry: (-entry[1], entry[0]))
    several = len(most) > 1
    shown = [f"{name} {n:,}" if several and n > 1 else name for name, n in most[:_SHOWN]]
    shown += [f"{len(most) - _SHOWN:,} more"] if len(most) > _SHOWN else []
    ways = [*kind.ways, *usual_ways(sorted(map(tuple, about.ways)))]
    finding = make_finding(
        reason, f"{counted} ({', '.join(shown)})", ways, title, kind.decides, about.count
    )
    return in_files(kind.fate, finding, _first(about.examples))
