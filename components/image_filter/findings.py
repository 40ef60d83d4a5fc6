"""What was found out about the images and the run, in the one form in which it is said.

Terminal, pages, JSON, report and verdict read these records, and add no words of their own: what is
found in single files and what a source notes becomes a `Finding` here, what follows from counts in
`summary_findings`, and what concerns the model in `run_record.run_findings`.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.common.formatting import plural
from imgpipe.components.common.ingest_summary import SourceNote
from imgpipe.components.image_filter.judge.check import ImageFinding
from imgpipe.components.image_filter.judge.checks import TITLES

#: What a finding means for the files that it is about.
Fate = Literal["rejected", "repaired", "warned", "not_used", "noted"]


class Example(TypedDict):
    """One of the files, folders or columns of a finding."""

    path: Annotated[str, "Path of the file or folder, or name of the column."]
    detail: Annotated[str, "What was found in it; empty if the title says all."]
    image_hash: Annotated[str, "SHA-256 of the file; empty for what is no image."]


class Finding(TypedDict):
    """Something that a person should know about the images or the run."""

    fate: Annotated[
        Fate,
        "What happens to the files: `rejected` (quarantine), `repaired`, `warned` (kept), "
        "`not_used`, or `noted` for what concerns no single file.",
    ]
    reason: Annotated[str, "Its name in settings and files, such as that of the check."]
    title: Annotated[str, "The reason in a few words, as they stand in a list or in a verdict."]
    sentence: Annotated[str, "What was found, without a full stop; empty if the title says all."]
    remedies: Annotated[list[str], "What to do, each a way of its own."]
    decides: Annotated[
        bool,
        "Whether to know it before the verdict is believed: it stands above the verdict, which is "
        "not `clean` then.",
    ]
    count: Annotated[int, "Number of files, folders or columns; 0 if it is about none of them."]
    examples: Annotated[list[Example], "The first or worst of them."]


#: Notes of sources about images that nothing used, and how their paths are called.
_LEFT_OUT = {
    "skipped": "skipped",
    "unlabelled_folder": "folder",
    "unlabelled_file": "file",
    "hidden_image": "file",
}
#: Other notes of what nothing used.
_UNUSED = {"folder_without_images": "folder", "unused_column": "column", "unused_split": "split"}
#: Kinds of which the number says enough, in the singular and the plural.
_COUNTED = {
    "other_files": ("file that is no image", "files that are no images"),
    "unlabelled_file": ("image whose name has no label", "images whose names have no label"),
    "hidden_image": ("image whose name begins with a dot", "images whose names begin with a dot"),
}
#: Notes of sources in words, where their kinds are none.
_NOTES = {
    "other_files": "no image by its name",
    "unlabelled_file": "no label in its name",
    "unlabelled_folder": "folder without a class of train",
    "hidden_image": "name begins with a dot",
    "unread_list": "list that is not read",
    "unused_column": "column that nothing reads",
    "unused_split": "split that nothing reads",
    "single_folder": "folder around all others",
    "no_group": "no group in its name",
    "skipped": "left out by data.skip",
}
_SHARE = 3  # where a third of the images is left out, the others do not stand for all
_NAMED = 4  # folders and columns that the line of what is not used names
_EXAMPLES = 20  # of each finding; the quarantine has all of them
_REMEDIES = 2  # of one reason, whose files may be of several formats


def make_finding(
    reason: str,
    sentence: str,
    remedies: Sequence[str] = (),
    title: str = "",
    decides: bool = False,
    count: int = 0,
) -> Finding:
    """Return a finding about no single file; see `Finding` for its parts."""
    return {
        "fate": "noted",
        "reason": reason,
        "title": title or title_of(reason),
        "sentence": sentence,
        "remedies": list(remedies),
        "decides": decides,
        "count": count,
        "examples": [],
    }


def in_files(fate: Fate, about: Finding, examples: Iterable[Example]) -> Finding:
    """Return a finding about some files, of which there are examples."""
    return {**about, "fate": fate, "examples": list(examples)}


def title_of(reason: str) -> str:
    """Return a reason in words."""
    return TITLES.get(reason) or _NOTES.get(reason) or reason.replace("_", " ")


def of_images(fate: Fate, image_findings: Iterable[ImageFinding]) -> list[Finding]:
    """Group what was found in single files by reason: the most frequent first, of each the worst.

    Args:
        fate: What happens to the files.
        image_findings: What the checks and the comparison found.
    """
    by_reason: dict[str, list[ImageFinding]] = collections.defaultdict(list)
    for finding in sorted(image_findings, key=lambda finding: (finding.score, finding.path)):
        by_reason[finding.reason].append(finding)
    groups = sorted(by_reason.items(), key=lambda entry: (-len(entry[1]), entry[0]))
    return [_of_reason(fate, reason, of_reason) for reason, of_reason in groups]


def _of_reason(fate: Fate, reason: str, image_findings: Sequence[ImageFinding]) -> Finding:
    """Return the finding about all files with one reason, the worst of which are its examples."""
    remedies = _ways(finding.remedy for finding in image_findings) if fate != "repaired" else []
    examples: list[Example] = [
        {"path": finding.path, "detail": finding.detail, "image_hash": finding.image_hash}
        for finding in image_findings[:_EXAMPLES]
    ]
    return in_files(fate, make_finding(reason, "", remedies, count=len(image_findings)), examples)


def _ways(remedies: Iterable[str]) -> list[str]:
    """Return the ways of the most frequent remedies, whose commands can be copied one by one."""
    usual = collections.Counter(filter(None, remedies)).most_common(_REMEDIES)
    return [way for remedy, _ in usual for way in remedy.split("; ")]


def of_source(notes: Sequence[SourceNote], classes: Mapping[str, int]) -> list[Finding]:
    """Group the notes of a source by kind.

    What was left out decides, where it is a third of all images, or as many as a class has.

    Args:
        notes: The notes; `ingest.json` has the first hundred of them.
        classes: Number of images that are kept by class.
    """
    by_kind: dict[str, list[SourceNote]] = collections.defaultdict(list)
    for note in notes:
        by_kind[note["kind"]].append(note)
    left_out = sum(note["count"] for note in notes if note["kind"] in _LEFT_OUT)
    smallest = min(filter(None, classes.values()), default=0)
    much = left_out > 0 and (
        left_out >= smallest or _SHARE * left_out >= sum(classes.values()) + left_out
    )
    return [
        _of_kind(kind, of_kind, decides=much and kind in _LEFT_OUT)
        for kind, of_kind in sorted(by_kind.items())
    ]


def _of_kind(kind: str, notes: Sequence[SourceNote], decides: bool) -> Finding:
    """Return the finding about all notes of one kind."""
    about = make_finding(
        kind,
        _unused(kind, notes),
        _ways(note["remedy"] for note in notes),
        decides=decides,
        count=sum(note["count"] for note in notes),
    )
    examples: list[Example] = [
        {"path": note["path"], "detail": note["detail"], "image_hash": ""}
        for note in notes[:_EXAMPLES]
    ]
    is_unused = kind in (*_LEFT_OUT, *_UNUSED, *_COUNTED)
    return in_files("not_used" if is_unused else "noted", about, examples)


def _unused(kind: str, notes: Sequence[SourceNote]) -> str:
    """Name what is not used, as in "folder masks (400 images)"; "" for other kinds of notes."""
    if kind in _COUNTED:
        return plural(sum(note["count"] for note in notes), *_COUNTED[kind])
    parts = []
    for note in notes:
        if kind in _LEFT_OUT:
            parts.append(f"{_LEFT_OUT[kind]} {note['path']} ({plural(note['count'], 'image')})")
        elif kind == "folder_without_images":
            parts.append(f"folder {note['path']} ({plural(note['count'], 'file')}, no image)")
        elif kind in _UNUSED:
            parts.append(f"{_UNUSED[kind]} {note['path']}")
    more = [f"{len(parts) - _NAMED} more"] if len(parts) > _NAMED else []
    return ", ".join([*parts[:_NAMED], *more])


def not_used(findings: Iterable[Finding], decides: bool = False) -> str:
    """Say what was not used: "folder masks (400 images), column lesion_id".

    Args:
        findings: Findings about the images.
        decides: Whether only what decides is named.

    Returns:
        A line without a full stop; "" where everything was used.
    """
    unused = (finding for finding in findings if finding["fate"] == "not_used")
    return ", ".join(finding["sentence"] for finding in unused if finding["decides"] or not decides)


def titles(findings: Iterable[Finding], but: Iterable[str] = ()) -> list[str]:
    """Return what decides in a few words each, for a verdict; what is not used is one of them.

    Args:
        findings: Findings about the images or the run.
        but: Reasons that the verdict says in other words.
    """
    deciding = [finding for finding in findings if finding["decides"]]
    unused = not_used(deciding)
    used = (finding for finding in deciding if finding["fate"] != "not_used")
    others = [finding["title"] for finding in used if finding["reason"] not in but]
    return others + ([f"not used: {unused}"] if unused else [])


def joined(about_images: Iterable[Finding], about_result: Sequence[Finding]) -> list[Finding]:
    """Return the findings about the images and the result, which knows more of the same reason."""
    reasons = {finding["reason"] for finding in about_result}
    others = [finding for finding in about_images if finding["reason"] not in reasons]
    return [*others, *about_result]
